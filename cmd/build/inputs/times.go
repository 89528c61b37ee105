package inputs

import (
	"archive/tar"
	"context"
	"io"
	"os"
	"time"

	"layered.build/builder/executor/local"
	"layered.build/builder/planner"
	"layered.build/builder/planner/dag"
)

var _ planner.SourceTimes = (*Local)(nil)

// ContextTime implements planner.SourceTimes.
func (l *Local) ContextTime(ctx context.Context) (*time.Time, error) {
	if l.content == nil || l.content.age == nil {
		return nil, nil
	}
	return l.content.age(ctx)
}

// SourceTime implements planner.SourceTimes.
func (l *Local) SourceTime(ctx context.Context, src *dag.Source) (*time.Time, error) {
	switch {
	case src.Git != nil:
		t, err := l.remote.GitTime(ctx, src.Git)
		return &t, err
	case src.HTTP == nil:
		return nil, nil
	}
	d, err := l.remote.Download(ctx, src.HTTP)
	if err != nil {
		return nil, err
	}
	if !d.LastModified.IsZero() {
		return &d.LastModified, nil
	}
	return newestInArchive(ctx, d.Path)
}

// newestInArchive is the time of the newest file of a tar, nil if it is none.
func newestInArchive(ctx context.Context, path string) (*time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	plain, err := local.PlainTar(ctx, f)
	if err != nil {
		return nil, nil // it only looks like something compressed
	}
	defer plain.Close()
	var newest *time.Time
	tr := tar.NewReader(plain)
	for {
		h, err := tr.Next()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == io.EOF {
			return newest, nil
		}
		if err != nil {
			return nil, nil // no archive
		}
		if t := h.ModTime.UTC(); h.Typeflag == tar.TypeReg && (newest == nil || t.After(*newest)) {
			newest = &t
		}
	}
}
