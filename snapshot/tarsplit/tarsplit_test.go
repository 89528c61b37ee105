package tarsplit

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// randomTar is a tar with files of many sizes; some paths come several times.
func randomTar(t *testing.T, r *rand.Rand, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for range n {
		h := &tar.Header{Name: fmt.Sprintf("d/%d", r.IntN(n)), Mode: 0o644, Typeflag: tar.TypeReg}
		switch r.IntN(4) {
		case 0:
			h.Typeflag, h.Linkname = tar.TypeSymlink, "x"
		case 1:
			h.Size = r.Int64N(100_000)
		case 2:
			h.Size = r.Int64N(600)
		}
		must(t, w.WriteHeader(h))
		content := make([]byte, h.Size)
		for i := range content {
			content[i] = byte(r.Uint32())
		}
		_, err := w.Write(content)
		must(t, err)
	}
	must(t, w.Close())
	b.Write(bytes.Repeat([]byte("tail"), r.IntN(1000)))
	return b.Bytes()
}

// TestAssemble proves that a tar is rebuilt bit by bit from its tarsplit and the
// contents, whether these were hashed at once or by others later.
func TestAssemble(t *testing.T) {
	for seed := range uint64(4) {
		r := rand.New(rand.NewPCG(seed, 1))
		data := randomTar(t, r, int(seed*200)+3)
		at := t.TempDir()
		forms := Forms{Split: filepath.Join(at, "split"), Dir: filepath.Join(at, "dir"), Dup: filepath.Join(at, "dup")}
		must(t, os.MkdirAll(filepath.Join(forms.Dir, "d"), 0o700))
		must(t, os.Mkdir(forms.Dup, 0o700))
		split(t, r, data, forms)
		var got bytes.Buffer
		must(t, Assemble(t.Context(), forms, &got))
		if !bytes.Equal(got.Bytes(), data) {
			t.Fatalf("seed %d: the tar is another one", seed)
		}
	}
}

// split keeps a tar as a tarsplit and contents.
func split(t *testing.T, r *rand.Rand, data []byte, forms Forms) {
	t.Helper()
	w, err := Create(forms.Split)
	must(t, err)
	in := NewReader(bytes.NewReader(data), w)
	tr := tar.NewReader(in)
	last := map[string]int{}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		known := w.Entries()
		if h.Size > 0 {
			n, sum := w.File(h.Name, h.Size)
			in.Keep = false
			content, err := io.ReadAll(tr)
			must(t, err)
			in.Keep = true
			if r.IntN(2) == 0 {
				sum.Add(content)
			} else {
				sum.Later()
				go func() {
					sum.Write(content)
					sum.Done()
				}()
			}
			place := filepath.Join(forms.Dir, h.Name)
			if was, ok := last[h.Name]; ok {
				must(t, os.Rename(place, filepath.Join(forms.Dup, fmt.Sprint(was))))
			}
			must(t, os.WriteFile(place, content, 0o600))
			last[h.Name] = n
		} else {
			w.Header(h.Name)
		}
		if w.Entries() != known+1 {
			t.Fatalf("%d entries after %d", w.Entries(), known)
		}
	}
	_, err = io.Copy(io.Discard, in)
	must(t, err)
	must(t, w.Finish())
}

// TestAssembleDamaged proves that what cannot be read is an error.
func TestAssembleDamaged(t *testing.T) {
	at := t.TempDir()
	forms := Forms{Split: filepath.Join(at, "split"), Dir: at, Dup: filepath.Join(at, "dup")}
	must(t, os.Mkdir(filepath.Join(at, "d"), 0o700))
	must(t, os.Mkdir(forms.Dup, 0o700))
	r := rand.New(rand.NewPCG(7, 7))
	split(t, r, randomTar(t, r, 20), forms)
	whole, err := os.ReadFile(forms.Split)
	must(t, err)
	must(t, os.WriteFile(forms.Split, whole[:len(whole)/2], 0o600))
	if Assemble(t.Context(), forms, io.Discard) == nil {
		t.Error("half a tarsplit was accepted")
	}
	must(t, os.WriteFile(forms.Split, whole, 0o600))
	must(t, os.RemoveAll(filepath.Join(at, "d")))
	if Assemble(t.Context(), forms, io.Discard) == nil {
		t.Error("contents are missing, and nobody says so")
	}
}
