package azblob

import (
	"bytes"
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
	params := map[string]string{"restype": "container", "comp": "list", "prefix": prefix, "maxresults": "1000"}
	for {
		r := b.request("list", http.MethodGet, "", params)
		r.Object = prefix
		_, body, err := b.client.Call(ctx, r)
		if err != nil {
			return err
		}
		var page struct {
			XMLName    xml.Name `xml:"EnumerationResults"`
			Blobs      struct{ Blob []struct{ Name string } }
			NextMarker string
		}
		if err := xml.Unmarshal(bytes.TrimPrefix(body, []byte("\ufeff")), &page); err != nil {
			return fmt.Errorf("list %s: read the answer: %w", prefix, err)
		}
		for _, o := range page.Blobs.Blob {
			if err := fn(o.Name); err != nil {
				return err
			}
		}
		if page.NextMarker == "" {
			return nil
		}
		params["marker"] = page.NextMarker
	}
}

// Delete implements object.Cleaner. Snapshots of the blob go with it: else it could not.
func (b *bucket) Delete(ctx context.Context, key string) error {
	r := b.request("delete", http.MethodDelete, key, nil)
	r.Header.Set("X-Ms-Delete-Snapshots", "include")
	_, _, err := b.client.Call(ctx, r)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
