package build

import (
	"bytes"
	"context"
	"time"

	"layered.build/builder/cache/shared"
	"layered.build/builder/executor"
	"layered.build/builder/registry"
)

// withCache gives an image the records of the steps that made it, if that was asked for. An
// image whose layers are not those of the steps has none.
func (j *Job) withCache(ctx context.Context, img *registry.Image, of shared.InlineImage) (*registry.Image, error) {
	in := j.in.Caches.Inline
	if in == nil || len(of.Made) != len(of.As) {
		return img, nil
	}
	index, err := j.shared.Inline(ctx, of, *in)
	if err != nil {
		return nil, err
	}
	return img.WithMember(shared.InlineMember, index)
}

// missCaches tells of images that hold no cache although they were to.
func (j *Job) missCaches(images []*registry.Image) {
	if j.in.Caches.Inline == nil {
		return
	}
	for _, img := range images {
		if !bytes.Contains(img.RawConfig, []byte(shared.InlineMember)) {
			j.obs(executor.Event{Type: executor.EventWarning, Time: time.Now(), Data: []byte("--cache-to type=inline: the image holds no cache, since its layers are not those of the steps (--squash, Windows, eStargz and zstd:chunked)")})
			return
		}
	}
}
