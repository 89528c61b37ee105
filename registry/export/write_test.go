package export_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"layered.build/builder/registry/export"
	"layered.build/builder/registry/export/exporttest"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/registry/export/tree"
)

// taken is what sinks of another machine got.
type taken struct {
	dest  string
	file  []byte
	files map[string]int64 // sizes
	set   tree.Set
	empty bool
}

func (s *taken) File(_ context.Context, dest string, write func(io.Writer) error) error {
	var buf bytes.Buffer
	err := write(&buf)
	s.dest, s.file = dest, buf.Bytes()
	return err
}

func (s *taken) Layout(_ context.Context, dest string, write func(layout.Sink) error) error {
	s.dest, s.files = dest, map[string]int64{}
	return write(sizes(s.files))
}

func (s *taken) Folder(_ context.Context, dest string, set tree.Set, empty bool) error {
	s.dest, s.set, s.empty = dest, set, empty
	return nil
}

// sizes is a layout.Sink.
type sizes map[string]int64

func (s sizes) File(path string, size int64, r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	s[path] = n
	if n != size {
		return errors.Join(err, io.ErrUnexpectedEOF)
	}
	return err
}

func (s sizes) Dir(string) error { return nil }

// said is an export.Task.
type said struct{ items *[]string }

func (s said) Item(text string) { *s.items = append(*s.items, text) }

func (s said) Run(ctx context.Context, name string, fn func(context.Context, export.Task) error) error {
	s.Item("task " + name)
	return fn(ctx, s)
}

// TestWriteElsewhere is what a server does: options without a destination, and sinks of
// its client.
func TestWriteElsewhere(t *testing.T) {
	c := exporttest.NewClient(t)
	img := exporttest.NewImage(t, c, "base", "one")
	write := func(kind string, attrs ...export.Attr) (*taken, export.Exported, []string) {
		t.Helper()
		e, err := export.Parse(export.Spec{Kind: kind, Attrs: attrs, Elsewhere: true})
		if err != nil {
			t.Fatal(err)
		}
		sinks, items := &taken{}, []string{}
		env := export.Env{Client: c, Images: c.Images(), Sinks: sinks, Task: said{&items}}
		made := export.Made{Names: []string{"app"}, Images: []export.Member{{Platform: img.Config.Platform, Image: img, Files: img.Stack}}}
		done, err := e.Export(t.Context(), env, made)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		return sinks, done, items
	}
	got, done, items := write(export.OCI, export.Attr{Key: "name", Value: "other:1,app"})
	files := exporttest.Entries(t, got.file)
	if index := string(files["index.json"]); strings.Count(index, "docker.io/library/app:latest") != 1 || !strings.Contains(index, "other:1") {
		t.Errorf("index.json %s", index)
	}
	if done.Index == nil || len(done.Names) != 0 || !slices.Equal(items, []string{"writing oci archive"}) {
		t.Errorf("%+v, shown %q", done, items)
	}
	got, _, _ = write(export.OCI, export.Attr{Key: "tar", Value: "false"})
	if len(got.files) != 6 || got.files["index.json"] == 0 { // three blobs of the image, its manifest, two marks
		t.Errorf("layout %v", slices.Sorted(maps.Keys(got.files)))
	}
	got, done, _ = write(export.Docker)
	if files := exporttest.Entries(t, got.file); !strings.Contains(string(files["manifest.json"]), "app:latest") || done.Index != nil {
		t.Errorf("docker archive of %v", slices.Sorted(maps.Keys(files)))
	}
	got, _, _ = write(export.Tar)
	if files := exporttest.Entries(t, got.file); len(files["base"]) == 0 || len(files["one"]) == 0 {
		t.Errorf("tar of %v", slices.Sorted(maps.Keys(files)))
	}
	got, _, _ = write(export.Local, export.Attr{Key: "platform-split", Value: "true"}, export.Attr{Key: "mode", Value: "delete"})
	if !got.empty || !got.set.Split || len(got.set.Trees) != 1 {
		t.Errorf("folder %+v", got)
	}
	if _, done, items = write(export.CacheOnly); done.Index != nil || len(items) != 0 {
		t.Errorf("cacheonly %+v, %q", done, items)
	}
}

// TestWriteImage stores an image, in another form than it was made in, and leaves that
// alone.
func TestWriteImage(t *testing.T) {
	c := exporttest.NewClient(t)
	img := exporttest.NewImage(t, c, "base")
	s, err := export.ParseSpec("type=image,compression=zstd,annotation.a=b,name-canonical=true")
	if err != nil {
		t.Fatal(err)
	}
	e, err := export.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	made := export.Made{Names: []string{"app"}, Images: []export.Member{{Platform: img.Config.Platform, Image: img}}}
	var items []string
	done, err := e.Export(t.Context(), export.Env{Client: c, Images: c.Images(), Task: said{&items}}, made)
	if err != nil {
		t.Fatal(err)
	}
	if made.Images[0].Image != img || img.Manifest != nil || !slices.Equal(done.Names, []string{"docker.io/library/app:latest"}) {
		t.Errorf("made %+v, exported %+v", made, done)
	}
	stored, err := c.Images().ResolveLocal("app")
	if err != nil {
		t.Fatal(err)
	}
	if raw := string(stored.RawManifest); !strings.Contains(raw, "zstd") || !strings.Contains(raw, `"a":"b"`) && !strings.Contains(raw, `"a": "b"`) {
		t.Errorf("manifest %s", raw)
	}
	by, err := c.Images().ResolveLocal("app@" + stored.Manifest.Digest.String())
	if err != nil || by.ID != img.ID {
		t.Errorf("by digest: %+v, %v", by, err)
	}
}

// TestTargets: repositories come before forms, each once, and none of an exporter with an
// epoch of its own.
func TestTargets(t *testing.T) {
	for texts, want := range map[string]int{
		"type=image":                                                                        0,
		"type=registry|type=registry,name=app:2":                                            1,
		"type=registry|type=registry,name=other":                                            2,
		"type=registry|type=registry,compression=zstd":                                      2,
		"type=registry,source-date-epoch=1":                                                 0,
		"type=oci,dest=a|type=oci,dest=b|type=image,compression=zstd":                       2,
		"type=docker,dest=a|type=docker,dest=b,tar=false|type=local,dest=x|type=tar,dest=y": 1,
	} {
		var all []export.Exporter
		for text := range strings.SplitSeq(texts, "|") {
			s, err := export.ParseSpec(text)
			if err != nil {
				t.Fatal(err)
			}
			e, err := export.Parse(s)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, e)
		}
		if got := export.Targets(all, []string{"app"}); len(got) != want {
			t.Errorf("%s: %d targets, want %d: %+v", texts, len(got), want, got)
		}
	}
}

// TestDisk: what fails leaves the file that was there.
func TestDisk(t *testing.T) {
	var out bytes.Buffer
	d := export.Disk{Stdout: &out}
	hello := func(w io.Writer) error {
		_, err := io.WriteString(w, "hello")
		return err
	}
	path := filepath.Join(t.TempDir(), "f")
	if err := errors.Join(d.File(t.Context(), "-", hello), d.File(t.Context(), path, hello)); err != nil || out.String() != "hello" {
		t.Fatalf("%q, %v", out.String(), err)
	}
	broken := errors.New("broken")
	err := d.File(t.Context(), path, func(w io.Writer) error { return errors.Join(hello(w), hello(w), broken) })
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "hello" {
		t.Errorf("left %q", data)
	}
}
