package registry

import (
	"context"
	"errors"
	"io"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/registry/compression"
	"layered.build/builder/registry/remote"
	"layered.build/builder/snapshot"
)

// layerTap compresses a layer and sends it to a repository while it is made.
type layerTap struct {
	c       *Client
	ctx     context.Context
	p       *pusher // nil: it is not sent
	ref     string
	opts    PushOptions
	below   snapshot.Stack
	sent    *followed
	sending *remote.Stream
	blob    *compression.Blob
	failed  error
}

// TapLayer returns what compresses the next layer of a stack, in the usual form, and
// sends it to the repository of ref unless that is "", both while the layer is made: the
// last layer of an image is done nearly as soon as it is there. PushLayers and Push of a
// stack with the layer wait for the end, and do what did not work. It is nil, which is no
// error, where this is not possible now. Nothing that is sent has a name before the layer
// exists, and the layer does not wait for what is sent.
func (c *Client) TapLayer(ctx context.Context, ref string, below snapshot.Stack, opts PushOptions) snapshot.Tap {
	if !opts.Compression.IsUsual() || !c.compressions.TryAcquire(1) {
		return nil
	}
	t := &layerTap{c: c, ctx: ctx, ref: ref, opts: opts, below: below}
	if err := t.begin(); err != nil {
		t.end(err)
		return nil
	}
	return t
}

func (t *layerTap) begin() (err error) {
	if t.ref == "" {
		t.blob, err = t.c.newBlob(t.ctx, Compression{}, io.Discard)
		return err
	}
	if t.p, err = t.c.newPusher(t.ref, t.opts); err != nil {
		return err
	}
	out, err := t.c.store.Blobs().Writer(t.ctx)
	if err != nil {
		return err
	}
	if t.sent, err = follow(out); err != nil {
		return errors.Join(err, out.Close())
	}
	if t.blob, err = compression.NewBlob(out, Compression{}, t.sent); err != nil {
		return errors.Join(err, t.sent.in.Close())
	}
	open := func() (*remote.Repository, error) {
		err := t.p.open(t.p.scopes(t.below))
		return t.p.repo, err
	}
	t.sending = remote.StartStream(t.ctx, open, t.sent, t.sent.stop, func(error) { t.sent.in.Close() })
	return nil
}

// Write implements snapshot.Tap.
func (t *layerTap) Write(b []byte) (int, error) {
	n, err := t.blob.Write(b)
	if err != nil {
		t.failed = err
	}
	return n, err
}

// Done implements snapshot.Tap. The upload ends in the background.
func (t *layerTap) Done(l snapshot.Layer, err error) {
	desc, err := t.blob.Finish(errors.Join(err, t.failed))
	if err == nil {
		err = t.c.store.SetBlob(l, desc)
	}
	if err != nil || t.p == nil {
		t.end(err)
		return
	}
	name := t.p.work(l)
	w, mine := t.c.works.claim(name)
	if !mine { // somebody made and pushed the same
		t.end(context.Canceled)
		return
	}
	t.c.compressions.Release(1)
	go t.c.works.run(name, w, func() (ocispec.Descriptor, error) { //nolint:errcheck // whoever waits for the work gets its error
		if t.sent.left() > worthAsking && t.there(desc) {
			t.sending.GiveUp(t.ctx, errThere)
			return desc, t.p.known(l, desc)
		}
		if err := t.sending.Finish(t.ctx, desc, t.c.kept(desc)); err == nil {
			return desc, t.p.known(l, desc)
		}
		stack := append(slices.Clone(t.below), l)
		p, err := t.c.pusher(t.ref, stack, t.opts)
		if err != nil {
			return desc, err
		}
		return p.layer(t.ctx, stack, nil)
	})
}

// worthAsking is how much must be left to send for a question to be worth while.
const worthAsking = 1 << 20

// errThere is why an upload is given up that is not needed.
var errThere = errors.New("the registry has the blob already")

// there asks whether the registry has the blob anyway: a step may make again what it made
// before.
func (t *layerTap) there(desc ocispec.Descriptor) bool {
	p, err := t.c.pusher(t.ref, t.below, t.opts)
	if err != nil {
		return false
	}
	has, err := p.repo.Has(t.ctx, desc)
	return has && err == nil
}

// end gives up what has been begun.
func (t *layerTap) end(err error) {
	t.c.compressions.Release(1)
	if t.sending != nil {
		go t.sending.GiveUp(t.ctx, err)
	}
}
