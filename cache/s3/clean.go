package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"net/http"

	"layered.build/builder/cache/object"
)

var _ object.Cleaner = (*bucket)(nil)

// List implements object.Cleaner.
func (b *bucket) List(ctx context.Context, prefix string, fn func(key string) error) error {
	params := map[string]string{"list-type": "2", "prefix": prefix}
	for {
		r := b.request("list", http.MethodGet, "", params)
		r.Object = prefix
		_, body, err := b.client.Call(ctx, r)
		if err != nil {
			return err
		}
		var page struct {
			XMLName               xml.Name `xml:"ListBucketResult"`
			Contents              []struct{ Key string }
			IsTruncated           bool
			NextContinuationToken string
		}
		if err := xml.Unmarshal(body, &page); err != nil {
			return fmt.Errorf("list %s: read the answer: %w", prefix, err)
		}
		for _, o := range page.Contents {
			if err := fn(o.Key); err != nil {
				return err
			}
		}
		if !page.IsTruncated || page.NextContinuationToken == "" {
			return nil
		}
		params["continuation-token"] = page.NextContinuationToken
	}
}

// Delete implements object.Cleaner.
func (b *bucket) Delete(ctx context.Context, key string) error {
	_, _, err := b.client.Call(ctx, b.request("delete", http.MethodDelete, key, nil))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
