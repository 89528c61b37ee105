package reapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cache/shared/sharedtest"
	"layered.build/builder/fixtures/remotecache"
)

const testToken = "token-of+the/tests=0123456789"

// quick has short pauses.
var quick = Settings{Pause: time.Millisecond}

func none(string) string { return "" }

func start(t *testing.T, s *remotecache.Server) *remotecache.Server {
	t.Helper()
	s.Start(t)
	return s
}

// open opens the place of a server, with further options.
func open(t *testing.T, set Settings, s *remotecache.Server, more string) *Place {
	t.Helper()
	scheme := "grpc"
	if s.TLS != nil {
		scheme = "grpcs"
	}
	a, err := shared.ParseAttrs("type=reapi,endpoint=" + scheme + "://" + s.Host + ",instance=" + s.Instance + ",header=authorization=Bearer " + testToken + ";x-tenant=a" + more)
	if err != nil {
		t.Fatal(err)
	}
	a.Kind()
	p, err := set.New(a, none)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Left(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestConformance(t *testing.T) {
	for name, server := range map[string]func() *remotecache.Server{
		"Usual":      func() *remotecache.Server { return &remotecache.Server{} },
		"Instance":   func() *remotecache.Server { return &remotecache.Server{Instance: "main/of all", Token: testToken} },
		"Small":      func() *remotecache.Server { return &remotecache.Server{MaxBatch: 64 << 10} },
		"Tiny":       func() *remotecache.Server { return &remotecache.Server{MaxBatch: 200} },
		"Inline":     func() *remotecache.Server { return &remotecache.Server{Inline: true, MaxBatch: 4 << 20} },
		"Incomplete": func() *remotecache.Server { return &remotecache.Server{Incomplete: true} },
		"Cut":        func() *remotecache.Server { return &remotecache.Server{Cut: 3 << 20} },
		"NoResume":   func() *remotecache.Server { return &remotecache.Server{Cut: 3 << 20, NoResume: true} },
	} {
		t.Run(name, func(t *testing.T) {
			sharedtest.Run(t, func(t *testing.T) sharedtest.Opener {
				s := start(t, server())
				return func() shared.Backend { return goesOn{open(t, quick, s, "")} }
			})
		})
	}
}

// goesOn reads blobs as the cache does: on where it broke.
type goesOn struct{ *Place }

// Open implements shared.Blobs.
func (g goesOn) Open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	var data []byte
	for {
		r, err := g.Place.Open(ctx, b, offset+int64(len(data)))
		if err != nil {
			return nil, err
		}
		part, err := io.ReadAll(r)
		r.Close()
		data = append(data, part...)
		switch {
		case err == nil:
			return io.NopCloser(bytes.NewReader(data)), nil
		case len(part) == 0:
			return nil, err
		}
	}
}

func TestOptions(t *testing.T) {
	for _, c := range []struct{ attrs, env, name, host, header string }{
		{"endpoint=grpc://h:9", "", "grpc://h:9", "h:9", "map[]"},
		{"endpoint=grpcs://h/,instance=a/b", "", "grpcs://h:443/a/b", "h:443", "map[]"},
		{"endpoint=grpc://[::1]", "", "grpc://[::1]:80", "[::1]:80", "map[]"},
		{"endpoint=grpc://h:9,header=A=b=c; D =", "A=env", "grpc://h:9", "h:9", "map[a:b=c d:]"},
		{"endpoint=grpc://h:9", "a=1;b=2\nc=3\n", "grpc://h:9", "h:9", "map[a:1 b:2 c:3]"},
	} {
		a, err := shared.ParseAttrs("type=reapi," + c.attrs)
		if err != nil {
			t.Fatal(err)
		}
		o, err := takeOptions(a, func(k string) string { return map[string]string{headersVariable: c.env}[k] })
		if err != nil {
			t.Errorf("%s: %v", c.attrs, err)
			continue
		}
		if o.host != c.host || fmt.Sprint(o.header) != c.header || o.String() != c.name {
			t.Errorf("%s: got %s, %s, %v", c.attrs, o, o.host, o.header)
		}
	}
}

func TestMistakes(t *testing.T) {
	for attrs, want := range map[string]string{
		"instance=a":                                  "endpoint is missing",
		"endpoint=h:9":                                "grpc://HOST:PORT",
		"endpoint=grpc://:9":                          "grpc://HOST:PORT",
		"endpoint=grpc://secret:secret@h":             "user or password",
		"endpoint=https://h:9":                        "spoken over gRPC",
		"endpoint=tcp://h:9":                          "want grpc://",
		"endpoint=grpc://h:9/a":                       "more than",
		"endpoint=grpc://h:9,instance=a/blobs":        `the part "blobs"`,
		"endpoint=grpc://h:9,instance=a//b":           `the part ""`,
		"endpoint=grpc://h:9,header=secret":           "not KEY=VALUE",
		"endpoint=grpc://h:9,header=a b=secret":       "not KEY=VALUE",
		"endpoint=grpc://h:9,header=grpc-x=secret":    "gRPC's own",
		"endpoint=grpc://h:9,header=a=secret\x01":     "characters",
		"endpoint=grpc://h:9,ca=f":                    "for grpcs://",
		"endpoint=grpc://h:9,insecure=true":           "for grpcs://",
		"endpoint=grpcs://h:9,insecure=perhaps":       "insecure=perhaps",
		"endpoint=grpcs://h:9,ca=/no/file":            "/no/file",
		"endpoint=grpcs://h:9,ca=place_test.go":       "no certificate",
		"endpoint=grpcs://h:9,cert=f":                 "go together",
		"endpoint=grpcs://h:9,cert=/no/file,key=none": "/no/file",
	} {
		a, err := shared.ParseAttrs("type=reapi," + attrs)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(a, none); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %q", attrs, err, want)
		}
	}
}

// What is larger than the server takes is not sent.
func TestTooLarge(t *testing.T) {
	s := start(t, &remotecache.Server{MaxBlob: 1000})
	data := make([]byte, 1001)
	err := open(t, quick, s, "").Store(t.Context(), sharedtest.NewBlob(data), sharedtest.Content(data))
	if err == nil || !strings.Contains(err.Error(), "the server takes 1000") || s.Calls("Write")+s.Calls("BatchUpdateBlobs") != 0 {
		t.Errorf("got %v", err)
	}
}

// Many blobs are asked for in few calls.
func TestManyBlobs(t *testing.T) {
	s := start(t, &remotecache.Server{})
	var blobs []shared.Blob
	for i := range maxAsked + 1 {
		blobs = append(blobs, sharedtest.NewBlob(fmt.Append(nil, i)))
	}
	missing, err := open(t, quick, s, "").Missing(t.Context(), append(blobs, blobs...))
	if err != nil || len(missing) != len(blobs) || s.Calls("FindMissingBlobs") != 2 {
		t.Errorf("%d are missing, %d calls, %v", len(missing), s.Calls("FindMissingBlobs"), err)
	}
}

// A build that finds all in the index asks for nothing else.
func TestCallsOfLookup(t *testing.T) {
	s := start(t, &remotecache.Server{Inline: true})
	if err := open(t, quick, s, "").Replace(t.Context(), "", []byte("index"), nil, ""); err != nil {
		t.Fatal(err)
	}
	before := s.Calls("GetActionResult")
	if data, _, err := open(t, quick, s, "").Index(t.Context(), ""); err != nil || string(data) != "index" {
		t.Errorf("got %q, %v", data, err)
	}
	if n := s.Calls("GetActionResult") - before; n != 1 || s.Calls("GetCapabilities") != 1 || s.Calls("BatchReadBlobs")+s.Calls("Read") != 0 {
		t.Errorf("%d calls for results, %d for capabilities", n, s.Calls("GetCapabilities"))
	}
}

// Instances and scopes have indexes of their own, also where the server has one place for
// the results of all.
func TestActions(t *testing.T) {
	seen := map[string]string{}
	for _, c := range [][2]string{{"", ""}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab", ""}, {"", "ab"}} {
		p := &Place{instance: c[0]}
		act, _ := p.action(c[1])
		if other, ok := seen[act.digest.String()]; ok {
			t.Errorf("%q is %q", c, other)
		}
		seen[act.digest.String()] = fmt.Sprint(c)
	}
	// It is part of the format (docs/FORMAT.md).
	_, command := (&Place{instance: "i"}).action("s")
	if got := string(command.data); got != "\x0a\x07builder\x0a\x05cache\x0a\x011\x0a\x01i\x0a\x01s" {
		t.Errorf("the command is %q", got)
	}
}

func TestClosed(t *testing.T) {
	s := start(t, &remotecache.Server{})
	p := open(t, quick, s, "")
	if _, _, err := p.Index(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
