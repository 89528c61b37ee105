package registry

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	fake "github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/fixtures/oddregistry"
)

// aliceIn logs alice in to a registry, and the machine's own user to none.
func aliceIn(t *testing.T, host string) {
	t.Helper()
	writeFileT(t, filepath.Join(isolate(t), ".docker/config.json"), `{"auths":{"`+host+`":{"auth":"`+basic("alice", "s3cret-word")+`"}}}`, 0o600)
}

func newFake() http.Handler { return fake.New(fake.Logger(log.New(io.Discard, "", 0))) }

// oddWays are what a registry may do.
func oddWays(t *testing.T) map[string]oddregistry.Mode {
	alice := oddregistry.Guard{User: "alice", Password: "s3cret-word"}
	guard := func(change func(g *oddregistry.Guard)) oddregistry.Mode {
		g := alice
		change(&g)
		return g.Mode
	}
	return map[string]oddregistry.Mode{
		"a token":                     alice.Mode,
		"an anonymous token":          oddregistry.Guard{}.Mode,
		"a password":                  guard(func(g *oddregistry.Guard) { g.Basic = true }),
		"open /v2/":                   guard(func(g *oddregistry.Guard) { g.OpenPing = true }),
		"an open repository":          guard(func(g *oddregistry.Guard) { g.Open = []string{"app"} }),
		"another open repository":     guard(func(g *oddregistry.Guard) { g.Open = []string{"other"} }),
		"token servers of their own":  guard(func(g *oddregistry.Guard) { g.OwnRealms = true }),
		"a challenge without a scope": guard(func(g *oddregistry.Guard) { g.Quiet = true }),
		"another name of the scope":   guard(func(g *oddregistry.Guard) { g.Alias = "tenant/" }),
		"no tokens for others":        guard(func(g *oddregistry.Guard) { g.Allowed = []string{"app"} }),
		"no /v2/":                     oddregistry.NoPing(http.StatusNotFound),
		"forbidden /v2/":              oddregistry.NoPing(http.StatusForbidden),
		"unauthorized /v2/":           oddregistry.NoPing(http.StatusUnauthorized),
		"nothing at /v2/":             oddregistry.NoPing(0),
		"uploads moved for once":      oddregistry.Moved(http.StatusTemporaryRedirect),
		"uploads moved":               oddregistry.Moved(http.StatusPermanentRedirect),
		"uploads moved elsewhere":     oddregistry.MovedElsewhere(t, http.StatusTemporaryRedirect),
		"no parts of blobs":           oddregistry.NoPatch,
		"digests that are none":       oddregistry.OddDigest,
		"encoded answers":             oddregistry.Encoded,
		"blobs with a wrong label":    oddregistry.Mislabelled,
	}
}

// TestOddRegistries does what the client does with every kind of registry.
func TestOddRegistries(t *testing.T) {
	ways := oddWays(t)
	for name, way := range ways {
		t.Run(name, func(t *testing.T) { tryRegistry(t, name != "no tokens for others", way) })
	}
	for name, together := range map[string][]string{
		"moved uploads behind a login": {"digests that are none", "encoded answers", "no /v2/", "token servers of their own", "uploads moved elsewhere"},
		"whole blobs behind a login":   {"encoded answers", "a password", "digests that are none", "uploads moved", "no parts of blobs"},
	} {
		var modes []oddregistry.Mode
		for _, way := range together {
			modes = append(modes, ways[way])
		}
		t.Run(name, func(t *testing.T) { tryRegistry(t, true, modes...) })
	}
}

// tryRegistry pushes, pulls and copies images of a registry, of which one repository or
// all may be used.
func tryRegistry(t *testing.T, all bool, modes ...oddregistry.Mode) {
	reg := oddregistry.Start(t, newFake(), modes...)
	aliceIn(t, reg.Host)
	repos := []string{"app"}
	if all {
		repos = append(repos, "other", "deep/er")
	}
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 200_000, 10)
	var desc ocispec.Descriptor
	for _, repo := range repos { // the first one's layers may be mounted in the others
		desc = mustPush(t, c, reg.Host+"/"+repo, img)
	}
	mustPush(t, newClientOn(t, c.store, quick), reg.Host+"/app:again", img)
	mustPush(t, c, reg.Host+"/app:tapped", tapped(t, c, reg.Host+"/app:tapped"))

	b := newTestClient(t, quick)
	for _, repo := range repos {
		sameImage(t, c, img, b, mustPull(t, b, reg.Host+"/"+repo))
	}
	r, err := newTestClient(t, quick).Resolve(t.Context(), reg.Host+"/app@"+desc.Digest.String(), amd64)
	if err != nil || r.Digest() != desc.Digest {
		t.Errorf("resolved %v, %v; want %s", r, err, desc.Digest)
	}
	index := &Index{Images: []*Image{img, tappedOf(t, c, "", 100)}}
	index.Images[1].Config.Architecture = "arm64"
	if _, err := c.PushIndex(t.Context(), reg.Host+"/app:all", index, PushOptions{}); err != nil {
		t.Error(err)
	}
	sameImage(t, c, img, b, mustPull(t, b, reg.Host+"/app:all"))
	if all {
		tryCopy(t, b, reg.Host+"/app:all", reg.Host+"/copy")
	}
	if _, err := b.Resolve(t.Context(), reg.Host+"/app:none", amd64); !errors.Is(err, ErrNotFound) {
		t.Errorf("a tag that is not there: %v", err)
	}
}

func tryCopy(t *testing.T, c *Client, from, to string) {
	t.Helper()
	src, err := c.Source(from)
	if err != nil {
		t.Fatal(err)
	}
	dst, err := c.Destination(to, src, PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	desc, err := Copy(t.Context(), dst, src, CopyOptions{Parallel: 4})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newTestClient(t, quick).Resolve(t.Context(), to, amd64); err != nil || got.Index == nil || got.Index.Digest != desc.Digest {
		t.Errorf("copied %s, found %+v, %v", desc.Digest, got, err)
	}
}

// TestLoginCosts counts what a login costs: where a registry asks the same for all of its
// repositories, only the first one is asked in vain; where it asks for nothing, nothing is
// asked beside, with and without a password.
func TestLoginCosts(t *testing.T) {
	open := func(next http.Handler) http.Handler { return next }
	for name, tc := range map[string]struct {
		mode oddregistry.Mode
		want []int // requests for each of two repositories
	}{
		"nothing":                    {open, []int{1, 1}},
		"a token":                    {oddregistry.Guard{User: "alice", Password: "s3cret-word"}.Mode, []int{3, 2}},
		"a password":                 {oddregistry.Guard{User: "alice", Password: "s3cret-word", Basic: true}.Mode, []int{2, 1}},
		"token servers of their own": {oddregistry.Guard{User: "alice", Password: "s3cret-word", OwnRealms: true}.Mode, []int{3, 4}},
		"the second is open":         {oddregistry.Guard{User: "alice", Password: "s3cret-word", Basic: true, Open: []string{"b"}}.Mode, []int{2, 1}},
		"the first is open":          {oddregistry.Guard{User: "alice", Password: "s3cret-word", Open: []string{"a"}}.Mode, []int{1, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			reg := oddregistry.Start(t, newFake(), tc.mode)
			aliceIn(t, reg.Host)
			c := newTestClient(t, quick)
			img := testImage(t, c, "app", 10)
			for _, repo := range []string{"a", "b"} {
				mustPush(t, newClientOn(t, c.store, quick), reg.Host+"/"+repo, img)
			}
			mustPull(t, c, reg.Host+"/a")
			c = newClientOn(t, c.store, quick) // which has the blobs
			reg.Take()
			var got []int
			for _, repo := range []string{"a", "b"} {
				if _, err := c.Resolve(t.Context(), reg.Host+"/"+repo, amd64); err != nil {
					t.Fatal(err)
				}
				asked := reg.Take()
				if slices.ContainsFunc(asked, func(q string) bool { return q == "GET /v2/" }) {
					t.Errorf("asked %q", asked)
				}
				got = append(got, len(asked))
			}
			if fmt.Sprint(got) != fmt.Sprint(tc.want) {
				t.Errorf("%v requests, want %v", got, tc.want)
			}
		})
	}
}

// TestLoginTogether: of several repositories that are asked for at once one is refused, and
// tells how to log in for all of them.
func TestLoginTogether(t *testing.T) {
	reg := oddregistry.Start(t, newFake(), oddregistry.Guard{User: "alice", Password: "s3cret-word"}.Mode)
	aliceIn(t, reg.Host)
	c := newTestClient(t, quick)
	img := testImage(t, c, "app", 10)
	repos := []string{"a", "b", "c", "d"}
	for _, repo := range repos {
		mustPush(t, c, reg.Host+"/"+repo, img)
	}
	mustPull(t, c, reg.Host+"/a")
	c = newClientOn(t, c.store, quick) // which has the blobs
	reg.Take()
	var group sync.WaitGroup
	for _, repo := range repos {
		group.Go(func() {
			if _, err := c.Resolve(t.Context(), reg.Host+"/"+repo, amd64); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if asked := reg.Take(); len(asked) != 1+2*len(repos) || count(asked, "GET", "/token/") != len(repos) {
		t.Errorf("asked %q", asked)
	}
}
