package imageref

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/distribution/reference"
)

var names = []string{
	"", "alpine", "alpine:3.20", "library/alpine", "docker.io/alpine", "index.docker.io/a/b", "index.docker.io/a", "docker.io/library/a/b",
	"localhost/app", "localhost:5000/app:x", "LOCALHOST/app", "Foo/bar", "foo.Bar/x", "a_b.c/x", "a_b.c:5/x", "a-.b/x", "-a.b/x",
	"[::1]:5000/x", "[::1]/x", "[::1/x", "[]/x", "[::1]:/x", "[::1]5/x", "host:/x", "host:port/x", "host:1:2/x", "1.2.3.4:80/a/b/c:tag",
	"a//b", "a/", "/a", "a/b/", "A", "a/B", "a:b:c", "a:", "a:.b", "a:-b", "a:_b", "a@", "a@b", "a:b@c",
	"a__b", "a___b", "a..b", "a.b", "a._b", "a---b", "a-_b", "a_", "_a", "a.", ".a", "a b", "a\n", "\na", "ä", "ſ", "K", "a/ſ", "a.ſ/x", "İ/x",
	"a@sha256:" + strings.Repeat("a", 64), "a@sha256:" + strings.Repeat("A", 64), "a@sha256:" + strings.Repeat("a", 63), "a@sha256:" + strings.Repeat("g", 64),
	"a:t@sha512:" + strings.Repeat("0", 128), "a@md5:" + strings.Repeat("0", 32), "a@x+y.z_w-v:" + strings.Repeat("0", 32), "a@x++y:" + strings.Repeat("0", 32), "a@+x:" + strings.Repeat("0", 32), "a@x1:" + strings.Repeat("0", 31),
	strings.Repeat("a", 64), strings.Repeat("b", 63), strings.Repeat("g", 64), strings.Repeat("a", 255), strings.Repeat("a", 247), strings.Repeat("a", 248),
	"a:" + strings.Repeat("t", 128), "a:" + strings.Repeat("t", 129), "h.i/" + strings.Repeat("a", 256), "a:T", "a:T@B", "registry.test/app:1.0-rc_1",
}

// same compares with the library.
func same(t *testing.T, s string) {
	t.Helper()
	got, err := Parse(s)
	want, wantErr := reference.ParseNormalizedNamed(s)
	if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
		t.Fatalf("%q: %v, want %v", s, err, wantErr)
	}
	if err != nil {
		return
	}
	w := Name{Domain: reference.Domain(want), Path: reference.Path(want)}
	if d, ok := want.(reference.Digested); ok {
		w.Digest = d.Digest()
	}
	if tag, ok := want.(reference.Tagged); ok {
		w.Tag = tag.Tag()
	}
	if got != w {
		t.Fatalf("%q: %+v, want %+v", s, got, w)
	}
	if f := Familiar(got.Domain, got.Path); f != reference.FamiliarName(want) {
		t.Fatalf("%q: familiar %q, want %q", s, f, reference.FamiliarName(want))
	}
}

func TestSameAsDistribution(t *testing.T) {
	for _, s := range names {
		same(t, s)
	}
}

// TestSameAsDistributionRandom puts parts of names together by chance.
func TestSameAsDistributionRandom(t *testing.T) {
	parts := []string{
		"a", "b1", "Z", "docker.io", "index.docker.io", "localhost", "library", "/", "/", ":", ":", "@", "-", "_", "__", ".", "[", "]", "::1",
		"5000", "sha256:", strings.Repeat("f", 64), strings.Repeat("0", 32), "latest", "ſ", "\n", " ", "x.y",
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	good := 0
	for range 200_000 {
		var b strings.Builder
		for range 1 + rnd.IntN(7) {
			b.WriteString(parts[rnd.IntN(len(parts))])
		}
		same(t, b.String())
		if _, err := Parse(b.String()); err == nil {
			good++
		}
	}
	if good < 1000 {
		t.Errorf("only %d of the names are right", good)
	}
}

func FuzzSameAsDistribution(f *testing.F) {
	for _, s := range names {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { same(t, s) })
}

func BenchmarkParse(b *testing.B) {
	for b.Loop() {
		if _, err := Parse("registry.example.com:5000/team/app:1.2.3@sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"); err != nil {
			b.Fatal(err)
		}
	}
}
