package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"layered.build/builder/snapshot"
)

// writeTree writes the file system of a stack as one tar.
func writeTree(ctx context.Context, w io.Writer, store *snapshot.Store, stack snapshot.Stack) error {
	tree, err := store.Tree(ctx, stack)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	err = snapshot.Walk(tree, ".", func(e *snapshot.Entry) error {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if e.Path == "." {
			return nil
		}
		return writeTreeEntry(tw, tree, e)
	})
	return errors.Join(err, tw.Close())
}

func writeTreeEntry(tw *tar.Writer, tree snapshot.Tree, e *snapshot.Entry) error {
	h := &tar.Header{
		Name: e.Path, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.ModTime,
		Format: tar.FormatPAX, PAXRecords: map[string]string{},
	}
	for k, v := range e.Xattrs {
		h.PAXRecords["SCHILY.xattr."+k] = v
	}
	switch e.Type {
	case snapshot.TypeDir:
		h.Typeflag, h.Name = tar.TypeDir, e.Path+"/"
	case snapshot.TypeSymlink:
		h.Typeflag, h.Linkname = tar.TypeSymlink, e.Linkname
	case snapshot.TypeChar:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, e.DevMajor, e.DevMinor
	case snapshot.TypeBlock:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, e.DevMajor, e.DevMinor
	case snapshot.TypeFifo:
		h.Typeflag = tar.TypeFifo
	case snapshot.TypeFile:
		if sameFile(tree, e) {
			h.Typeflag, h.Linkname = tar.TypeLink, path.Clean(e.Hardlink)
			return tw.WriteHeader(h)
		}
		return writeTreeFile(tw, tree, e, h)
	default:
		return fmt.Errorf("%s: an entry of type %q cannot be written to a tar", e.Path, string(e.Type))
	}
	return tw.WriteHeader(h)
}

// sameFile reports whether the first file of e's hard link group is in the tree
// as it was: a later layer may have replaced one name of the group only.
func sameFile(tree snapshot.Tree, e *snapshot.Entry) bool {
	if e.Hardlink == "" {
		return false
	}
	first, err := tree.Lstat(e.Hardlink)
	if err != nil || first.Type != snapshot.TypeFile || first.Hardlink != "" || walkOrder(first.Path) >= walkOrder(e.Path) {
		return false
	}
	return first.Size == e.Size && first.Mode == e.Mode && first.UID == e.UID && first.GID == e.GID &&
		first.ModTime.Equal(e.ModTime) && first.Digest == e.Digest
}

// walkOrder is a key that sorts paths in the order of snapshot.Walk.
func walkOrder(p string) string { return strings.ReplaceAll(p, "/", "\x00") }

func writeTreeFile(tw *tar.Writer, tree snapshot.Tree, e *snapshot.Entry, h *tar.Header) error {
	h.Typeflag, h.Size = tar.TypeReg, e.Size
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	f, err := tree.Open(e.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(tw, f)
	return err
}
