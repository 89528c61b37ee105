package tree

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"path"
	"time"

	"layered.build/builder/snapshot"
)

// WriteTar writes the file systems as one tar.
func (s Set) WriteTar(ctx context.Context, w io.Writer) error {
	if err := s.check(); err != nil {
		return err
	}
	tw := &tarWriter{Writer: tar.NewWriter(w), epoch: s.Epoch, seen: map[string]bool{}}
	for _, t := range s.Trees {
		tw.prefix, tw.links = "", newLinks(t.Tree)
		if s.Split {
			tw.prefix = Folder(t.Platform) + "/"
		}
		if err := tw.tree(ctx, t, !s.Split && len(s.Trees) > 1); err != nil {
			return err
		}
	}
	return tw.Close()
}

// tarWriter writes trees to a tar, each below a prefix.
type tarWriter struct {
	*tar.Writer
	prefix string
	links  *links
	epoch  *time.Time      // the time of all entries, if set
	seen   map[string]bool // directories that several trees have
}

func (w *tarWriter) tree(ctx context.Context, tree snapshot.Tree, shared bool) error {
	return snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e.Path == "." && w.prefix == "" {
			return nil
		}
		if shared && e.Type == snapshot.TypeDir {
			if w.seen[e.Path] {
				return nil
			}
			w.seen[e.Path] = true
		}
		if w.epoch != nil {
			clone := *e
			clone.ModTime, e = *w.epoch, &clone
		}
		return w.entry(tree, e)
	})
}

func (w *tarWriter) entry(tree snapshot.Tree, e *snapshot.Entry) error {
	h := &tar.Header{
		Name: w.prefix + e.Path, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.ModTime,
		Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	for k, v := range e.Xattrs {
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	if first, ok := w.links.first(e); ok {
		h.Typeflag, h.Linkname = tar.TypeLink, w.prefix+first
		return w.WriteHeader(h)
	}
	switch e.Type {
	case snapshot.TypeDir:
		h.Typeflag, h.Name = tar.TypeDir, path.Clean(h.Name)+"/"
	case snapshot.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Linkname
	case snapshot.TypeChar:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, e.DevMajor, e.DevMinor
	case snapshot.TypeBlock:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, e.DevMajor, e.DevMinor
	case snapshot.TypeFifo:
		h.Typeflag = tar.TypeFifo
	case snapshot.TypeFile:
		return w.file(tree, e, h)
	default:
		return fmt.Errorf("%s: an entry of type %q cannot be written to a tar", e.Path, string(e.Type))
	}
	return w.WriteHeader(h)
}

func (w *tarWriter) file(tree snapshot.Tree, e *snapshot.Entry, h *tar.Header) error {
	h.Typeflag, h.Size = tar.TypeReg, e.Size
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	f, err := tree.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}
