package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/registry/mediatype"
	"layered.build/builder/registry/transport"
)

// pageOfTags is how many tags are asked for at once.
const pageOfTags = 1000

// Tags lists the tags of the repository, most at most. The error matches
// errors.ErrUnsupported if there are more.
func (r *Repository) Tags(ctx context.Context, most int) ([]string, error) {
	var all []string
	for last := ""; ; {
		page, err := r.tagsAfter(ctx, last)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(all) > most {
			return nil, fmt.Errorf("the repository has more than %d tags: %w", most, errors.ErrUnsupported)
		}
		if len(page) < pageOfTags || page[len(page)-1] == last {
			return all, nil
		}
		last = page[len(page)-1]
	}
}

func (r *Repository) tagsAfter(ctx context.Context, last string) ([]string, error) {
	query := url.Values{"n": {fmt.Sprint(pageOfTags)}}
	if last != "" {
		query.Set("last", last)
	}
	var list struct{ Tags []string }
	err := r.pool.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.s.URL("/tags/list?"+query.Encode()), nil)
		if err != nil {
			return err
		}
		resp, err := r.do(req, http.StatusOK)
		if err != nil {
			return r.s.Fail("list tags", "", err)
		}
		defer transport.Drain(resp)
		raw, err := readDocument(resp, maxManifest)
		if err == nil {
			err = json.Unmarshal(raw, &list)
		}
		return r.s.Fail("list tags", "", err)
	})
	return list.Tags, err
}

// Digest asks which manifest a tag names; "" if the registry does not tell, or has none.
func (r *Repository) Digest(ctx context.Context, tag string) (digest.Digest, error) {
	var d digest.Digest
	err := r.pool.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodHead, r.s.URL("/manifests/"+tag), nil)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", mediatype.Accept)
		resp, err := r.do(req, http.StatusOK, http.StatusNotFound)
		if err != nil {
			return r.s.Fail("look for manifest", tag, err)
		}
		transport.Drain(resp)
		d = ""
		if resp.StatusCode == http.StatusOK {
			d = told(resp)
		}
		return nil
	})
	return d, err
}

// DeleteManifest deletes a manifest, with all tags that name it. One that is not there is no
// error. The error matches errors.ErrUnsupported if the registry deletes none.
func (r *Repository) DeleteManifest(ctx context.Context, d digest.Digest) error {
	return r.pool.Again(ctx, func() error {
		req, err := http.NewRequestWithContext(ctx, http.MethodDelete, r.s.URL("/manifests/"+d.String()), nil)
		if err != nil {
			return err
		}
		resp, err := r.do(req, http.StatusAccepted, http.StatusOK, http.StatusNoContent, http.StatusNotFound, http.StatusMethodNotAllowed)
		if err != nil {
			return r.s.Fail("delete manifest", d.String(), err)
		}
		transport.Drain(resp)
		if resp.StatusCode == http.StatusMethodNotAllowed {
			return fmt.Errorf("the registry deletes no manifests: %w", errors.ErrUnsupported)
		}
		return nil
	})
}
