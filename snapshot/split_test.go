package snapshot_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/vbatts/tar-split/tar/asm"
	"github.com/vbatts/tar-split/tar/storage"

	"layered.build/builder/snapshot"
)

func importTar(t testing.TB, data []byte) (s *snapshot.Store, l snapshot.Layer, folder string) {
	t.Helper()
	needRoot(t)
	s = openStore(t)
	l, err := s.Import(t.Context(), nil, "", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s, l, filepath.Join(s.Root(), "layers", string(l.ID))
}

// entriesOf reads entries of tar-split; neighbouring segments become one.
func entriesOf(t testing.TB, r io.Reader) []storage.Entry {
	t.Helper()
	var all []storage.Entry
	for up := json.NewDecoder(r); ; {
		var e storage.Entry
		err := up.Decode(&e)
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		e.Position = 0
		if n := len(all); n > 0 && e.Type == storage.SegmentType && all[n-1].Type == e.Type {
			all[n-1].Payload = append(all[n-1].Payload, e.Payload...)
			continue
		}
		all = append(all, e)
	}
}

func splitText(t testing.TB, folder string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(folder, "tarsplit"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	text, err := z.DecodeAll(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// manyKinds is a tar without duplicates that fills several batches.
func manyKinds(t testing.TB) []byte {
	es := []tarEntry{
		{Header: tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "hello"}}},
		ent(tar.TypeDir, "./", ""), ent(tar.TypeDir, "./d/", ""), ent(tar.TypeReg, "./d/<&>ü", "x"), ent(tar.TypeReg, "d/\xff\xfe", "raw"),
		ent(tar.TypeReg, strings.Repeat("long/", 60)+"f", "far"), ent(tar.TypeReg, "empty", ""), ent(tar.TypeLink, "hard", "d/\xff\xfe"),
		ent(tar.TypeSymlink, "sym", "/etc/passwd"), ent(tar.TypeReg, ".wh.gone", ""), ent(tar.TypeReg, "/abs", "slash"), ent(tar.TypeFifo, "p", ""),
		ent(tar.TypeReg, "large", strings.Repeat("0123456789", 30000)),
	}
	for i := range 900 {
		es = append(es, ent(tar.TypeReg, fmt.Sprintf("n/%d", i), strings.Repeat("z", i*7%1500)))
	}
	return append(makeTar(t, es...), make([]byte, 300<<10)...)
}

// TestTarSplit checks that a tarsplit is what tar-split makes of the same tar, and
// that tar-split rebuilds the tar from it.
func TestTarSplit(t *testing.T) {
	data := manyKinds(t)
	_, _, folder := importTar(t, data)
	text := splitText(t, folder)

	var want bytes.Buffer
	r, done, err := asm.NewInputTarStreamWithDone(bytes.NewReader(data), storage.NewJSONPacker(&want), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ours, theirs := entriesOf(t, bytes.NewReader(text)), entriesOf(t, &want)
	for i := range min(len(ours), len(theirs)) {
		if !reflect.DeepEqual(ours[i], theirs[i]) {
			t.Fatalf("entry %d: %+v, tar-split has %+v", i, ours[i], theirs[i])
		}
	}
	if len(ours) != len(theirs) {
		t.Errorf("%d entries, tar-split has %d", len(ours), len(theirs))
	}

	files := storage.NewPathFileGetter(filepath.Join(folder, "dir"))
	out := asm.NewOutputTarStream(files, storage.NewJSONUnpacker(bytes.NewReader(text)))
	defer out.Close()
	if got, err := io.ReadAll(out); err != nil || !bytes.Equal(got, data) {
		t.Errorf("tar-split made another tar: %d bytes instead of %d, %v", len(got), len(data), err)
	}
}

// TestTarSplitOdd: what tar-split cannot rebuild, or not from the directory alone,
// is rebuilt here.
func TestTarSplitOdd(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("host"), 0o600); err != nil {
		t.Fatal(err)
	}
	full := ent(tar.TypeReg, ".wh.full", "a whiteout with content")
	data := makeTar(t, full, ent(tar.TypeSymlink, "link", filepath.Dir(secret)), ent(tar.TypeReg, "link/secret", "own!"),
		ent(tar.TypeReg, "./f", "one"), ent(tar.TypeReg, "f", "two"), ent(tar.TypeReg, "../f"[1:], "three"))
	s, l, folder := importTar(t, data)
	if _, got := readTar(t, s, l); !bytes.Equal(got, data) {
		t.Error("another tar")
	}
	if !bytes.Contains(splitText(t, folder), []byte(strings.TrimPrefix(secret, "/"))) {
		t.Error("the tarsplit does not name the file behind the symlink")
	}
}

// TestTarSplitDamaged: a tarsplit that is damaged, or of another format, is an
// error that says so.
func TestTarSplitDamaged(t *testing.T) {
	data := manyKinds(t)
	s, l, folder := importTar(t, data)
	name := filepath.Join(folder, "tarsplit")
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for what, bad := range map[string][]byte{
		"cut off": good[:len(good)/2], "no zstd": []byte("hello, this is no zstd"), "empty": {},
		"other format": z.EncodeAll([]byte("\x00\x80\x04binary\x01\x05\x01f"), nil), "other type": z.EncodeAll([]byte(`{"type":7}`), nil),
		"cut JSON": z.EncodeAll([]byte(`{"type":2,"payl`), nil),
	} {
		if err := os.WriteFile(name, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := s.Tar(t.Context(), l)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			err = errors.Join(err, r.Close())
		}
		if err == nil || (what != "empty" && !strings.Contains(err.Error(), "tarsplit is damaged or has another format")) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := os.WriteFile(name, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "dir/d/<&>ü"), []byte("y"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := s.Tar(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.Copy(io.Discard, r); err == nil || !strings.Contains(err.Error(), "<&>ü") {
		t.Errorf("a changed file: %v", err)
	}
}
