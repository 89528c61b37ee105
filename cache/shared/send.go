package shared

import (
	"context"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/hide"
	"layered.build/builder/snapshot"
)

// allLayers sends the layers of all records and describes them.
func (t *exporter) allLayers(ctx context.Context, recs map[cache.Key]*cache.Record) (map[cache.Key][][]layer, error) {
	keys := make([]cache.Key, 0, len(recs))
	for key := range recs {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	made := make([][][]layer, len(keys))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * parallel)
	for i, key := range keys {
		g.Go(func() (err error) {
			made[i], err = t.layers(ctx, recs[key])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := make(map[cache.Key][][]layer, len(keys))
	for i, key := range keys {
		out[key] = made[i]
	}
	return out, nil
}

// layers sends the layers of a record that the place lacks, and describes all of them.
func (t *exporter) layers(ctx context.Context, rec *cache.Record) ([][]layer, error) {
	out := make([][]layer, len(rec.Outputs))
	for o, stack := range rec.Outputs {
		stack, err := t.session.opts.Store.Name(ctx, nil, stack)
		if err != nil {
			return nil, err
		}
		for i, l := range stack {
			w := t.send(ctx, stack[:i+1])
			if w.err != nil {
				return nil, w.err
			}
			d := layer{DiffID: l.DiffID, Content: l.Content, Size: l.Size, Empty: l.Empty, Blob: w.blob, Entries: w.entries}
			if !l.Created.IsZero() {
				d.Created = l.Created.Unix()
			}
			out[o] = append(out[o], d)
		}
	}
	return out, nil
}

// send makes sure that the place has the last layer of a stack, once. The form is nil for
// layers that were made elsewhere: who has the base image has them.
func (t *exporter) send(ctx context.Context, stack snapshot.Stack) *sending {
	chain := stack[len(stack)-1].Completes()
	t.mu.Lock()
	w, mine := t.sent[chain], false
	if w == nil {
		w, mine = &sending{done: make(chan struct{})}, true
		t.sent[chain] = w
	}
	t.mu.Unlock()
	if !mine {
		select {
		case <-w.done:
		case <-ctx.Done():
			return &sending{err: context.Cause(ctx)}
		}
		return w
	}
	w.blob, w.err = t.sendLayer(ctx, stack, chain)
	if w.err == nil {
		w.entries, w.err = t.sendEntries(ctx, stack[len(stack)-1], chain)
	}
	t.mu.Lock()
	if w.err != nil || w.doubted { // it may be tried again
		delete(t.sent, chain)
	}
	close(w.done)
	t.mu.Unlock()
	return w
}

func (t *exporter) sendLayer(ctx context.Context, stack snapshot.Stack, chain snapshot.ChainID) (*ocispec.Descriptor, error) {
	l := stack[len(stack)-1]
	if l.Foreign() {
		return nil, nil
	}
	if form, ok, err := t.stream(ctx, stack, chain); ok {
		return form, err
	}
	form, content, err := t.form(ctx, stack, chain)
	if err != nil || form == nil {
		return nil, err
	}
	damaged := t.session.damaged(t.String(), chain, form.Digest)
	if t.has(form.Digest) && !damaged {
		return form, nil
	}
	return form, t.store(ctx, Blob{Descriptor: *form, DiffID: l.DiffID}, content, damaged)
}

// has reports whether the index names a blob.
func (t *exporter) has(d digest.Digest) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.there[d]
}

// stream sends a layer of this machine while it is being compressed, if the place can. It
// is false where there is nothing to gain.
func (t *exporter) stream(ctx context.Context, stack snapshot.Stack, chain snapshot.ChainID) (*ocispec.Descriptor, bool, error) {
	place, ok := t.Backend.(LayerStore)
	if _, here := t.session.opts.Store.Lookup(chain); !ok || !here || t.Form != (Compression{}) {
		return nil, false, nil
	}
	if known, ok := t.session.opts.Packer.Known(stack[len(stack)-1]); ok && (t.has(known.Digest) || t.session.damaged(t.String(), chain, known.Digest)) {
		return nil, false, nil
	}
	form, err := place.StoreLayer(ctx, stack)
	return plain(form), true, err
}

// plain is a form without what only this machine knows of it.
func plain(d ocispec.Descriptor) *ocispec.Descriptor {
	return &ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Annotations: d.Annotations}
}

// form is the compressed form of the last layer of a stack, and where it is read: that of
// the place it came from, or one that is made here. It is nil if the layer is one of a base
// image that was not fetched.
func (t *exporter) form(ctx context.Context, stack snapshot.Stack, chain snapshot.ChainID) (*ocispec.Descriptor, Content, error) {
	s := t.session
	_, here := s.opts.Store.Lookup(chain)
	s.mu.Lock()
	r := s.lazy[chain]
	s.mu.Unlock()
	switch {
	case r != nil && !r.banned && (!t.Form.Force || !here):
		return &r.blob.Descriptor, func(ctx context.Context, offset int64) (io.ReadCloser, error) {
			if body, err := s.opts.Packer.Packed(r.blob.Descriptor)(ctx, offset); err == nil {
				return body, nil
			}
			return newReader(ctx, r.from.Backend, r.blob, offset)
		}, nil
	case !here:
		return nil, nil, nil
	}
	form, err := s.opts.Packer.Pack(ctx, stack, t.Form)
	if err != nil {
		return nil, nil, err
	}
	return plain(form), s.opts.Packer.Packed(form), nil
}

// store sends one blob unless the place has it, undamaged.
func (t *exporter) store(ctx context.Context, b Blob, content Content, damaged bool) error {
	if ctx.Err() != nil { // another layer failed
		return context.Cause(ctx)
	}
	select {
	case t.slots <- struct{}{}:
		defer func() { <-t.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !damaged {
		missing, err := t.Missing(ctx, []Blob{b})
		if err != nil {
			return err
		}
		if len(missing) == 0 {
			t.unnamed(b)
			return nil
		}
	}
	t.unnamed(b)
	return t.Store(ctx, b, content)
}

// lost finds out which blobs were believed to be there since the index named them, and
// are not: another writer's index does not name them any more. They can be sent again.
func (t *exporter) lost(ctx context.Context, now *loadedScope, outputs map[cache.Key][][]layer) (bool, error) {
	var blobs []Blob
	for _, outs := range outputs {
		blobs = append(blobs, blobsOf(outs)...)
	}
	return t.lookAgain(ctx, now, blobs, func(d digest.Digest) bool { return t.there[d] })
}

// forget lets blobs be sent again.
func (t *exporter) forget(blobs []Blob) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, b := range blobs {
		delete(t.there, b.Digest)
		delete(t.loose, b.Digest)
		for chain, w := range t.sent {
			select {
			case <-w.done:
				if w.blob != nil && w.blob.Digest == b.Digest || w.entries != nil && w.entries.Digest == b.Digest {
					delete(t.sent, chain)
				}
			default:
			}
		}
	}
}

// doubt has a blob sent again that turned out to be damaged or gone in some place, and all
// that is being looked at now, as it may be that one.
func (t *exporter) doubt(b Blob) {
	t.forget([]Blob{b})
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, w := range t.sent {
		select {
		case <-w.done:
		default:
			w.doubted = true
		}
	}
}

// exported is a record as others may see it: values are hashed with the store's salt.
func (s *Session) exported(key cache.Key, rec *cache.Record) (record, error) {
	r := record{
		Key: key, Definition: rec.Definition, Created: rec.Created.Unix(), Used: today(),
		Duration: rec.Duration.Milliseconds(), Findings: rec.Findings,
	}
	if s.opts.Salt == nil {
		return r, nil
	}
	salt, err := s.opts.Salt()
	if err == nil {
		r.Hidden, err = hide.New(salt).Record(key, rec)
	}
	return r, err
}
