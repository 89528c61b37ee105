package build_test

import (
	"context"
	"io"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"layered.build/builder/cache/actions"
	"layered.build/builder/cache/azblob"
	"layered.build/builder/cache/s3"
	"layered.build/builder/cache/shared"
	"layered.build/builder/fixtures"
	"layered.build/builder/fixtures/actionscache"
	"layered.build/builder/fixtures/peer"
)

// counted counts the blobs that are read of a place.
type counted struct {
	shared.Backend
	opened atomic.Int32
}

// Open implements shared.Blobs.
func (c *counted) Open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	c.opened.Add(1)
	return c.Backend.Open(ctx, b, offset)
}

// TestSharedPlaces builds on a second machine what the first has built, with a service
// between them: nothing runs and no layer is fetched. After an edit only what depends on it
// runs, and the image is right.
func TestSharedPlaces(t *testing.T) {
	for name, start := range map[string]func(t *testing.T) func() (shared.Backend, error){
		"s3": startS3, "azblob": startAzure, "gha": startActions,
	} {
		t.Run(name, func(t *testing.T) {
			newMachine := machines(t)
			open := start(t)
			machine := func(edited string) (*machine, *counted) {
				b, err := open()
				if err != nil {
					t.Fatal(err)
				}
				c := &counted{Backend: b}
				m := newMachine().shares(c, shared.ModeMax)
				fixtures.WriteFiles(t, m.dir, "other", edited)
				return m, c
			}
			first, _ := machine("other")
			if ran := first.run(sharedDockerfile); len(ran) != 6 {
				t.Fatalf("ran %q", ran)
			}
			second, place := machine("other")
			second.nothingOut = true
			if ran := second.run(sharedDockerfile); len(ran) != 0 || place.opened.Load() != 0 {
				t.Errorf("ran %q, read %d blobs", ran, place.opened.Load())
			}
			edited, place := machine("edited")
			if ran := edited.run(sharedDockerfile); len(ran) != 4 || place.opened.Load() == 0 {
				t.Errorf("after an edit ran %q, read %d blobs", ran, place.opened.Load())
			}
			edited.is("all", "one\nthe file of atwo\n")
			edited.is("other", "edited")
		})
	}
}

func startS3(t *testing.T) func() (shared.Backend, error) {
	fixtures.NeedTime(t)
	s, err := peer.StartS3(t.Context(), t.TempDir(), "machines")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return func() (shared.Backend, error) {
		a, err := shared.ParseAttrs("type=s3,bucket=machines,endpoint_url=" + s.URL + ",access_key_id=" + s.Key + ",secret_access_key=" + s.Secret)
		if err != nil {
			return nil, err
		}
		return s3.New(a, func(string) string { return "" })
	}
}

func startAzure(t *testing.T) func() (shared.Backend, error) {
	fixtures.NeedTime(t)
	fixtures.NeedProgram(t, "node", "npm")
	s, err := peer.StartAzure(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return func() (shared.Backend, error) {
		a, err := shared.ParseAttrs("type=azblob,account_url=" + s.URL + ",secret_access_key=" + s.Key)
		if err != nil {
			return nil, err
		}
		return azblob.New(a, func(string) string { return "" })
	}
}

func startActions(t *testing.T) func() (shared.Backend, error) {
	s := httptest.NewServer(&actionscache.Server{})
	t.Cleanup(s.Close)
	token := actionscache.Token(time.Hour, actionscache.Scope{Scope: "refs/heads/main", Permission: actionscache.Read | actionscache.Write})
	return func() (shared.Backend, error) {
		a, err := shared.ParseAttrs("type=gha,url_v2=" + s.URL + ",token=" + token)
		if err != nil {
			return nil, err
		}
		return actions.New(a, func(string) string { return "" })
	}
}
