package portable

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/sparse"
)

// Writer writes a store. It is used by one goroutine.
type Writer struct {
	tw    *tar.Writer
	root  string
	links map[inode]string // first names of files that have several
	count int
}

type inode struct{ dev, ino uint64 }

// NewWriter begins to write the store in the folder root.
func NewWriter(w io.Writer, root string) (*Writer, error) {
	p := &Writer{tw: tar.NewWriter(w), root: root, links: map[inode]string{}}
	return p, p.mark(first, version)
}

// Close ends the stream. It does not close what it is written to.
func (w *Writer) Close() error {
	if err := w.mark(last, strconv.Itoa(w.count)+"\n"); err != nil {
		return err
	}
	return w.tw.Close()
}

func (w *Writer) mark(name, text string) error {
	err := w.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600, Size: int64(len(text))})
	if err == nil {
		_, err = io.WriteString(w.tw, text)
	}
	return err
}

// Add writes what is at a path of the store and below it, but for what leave names. Maker
// tells what objects are meant to be. It is no error if there is nothing.
func (w *Writer) Add(ctx context.Context, maker *object.Maker, name string, leave func(name string) bool) error {
	if leave != nil && leave(name) {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	p := filepath.Join(w.root, name)
	var st unix.Stat_t
	err := object.Lstat(p, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = w.object(maker, name, p, &st)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	entries, err := os.ReadDir(p)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := w.Add(ctx, maker, path.Join(name, e.Name()), leave); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) object(maker *object.Maker, name, p string, st *unix.Stat_t) error {
	e, opaque, err := maker.Describe(p, st)
	if err != nil || e.Type == manifest.TypeSocket {
		return err
	}
	w.count++
	h := &tar.Header{
		Format: tar.FormatPAX, Name: name, Mode: int64(e.Mode), Uid: int(e.UID), Gid: int(e.GID), ModTime: e.ModTime,
		PAXRecords: map[string]string{},
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if other, ok := w.links[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, other
			return w.tw.WriteHeader(h)
		}
		w.links[id] = name
	}
	for k, v := range e.Xattrs {
		h.PAXRecords[xattrKey+k] = v
	}
	if opaque {
		h.PAXRecords[opaqueKey] = "1"
	}
	switch e.Type {
	case manifest.TypeFile:
		if object.IsWhiteoutFile(p, st) {
			return w.tw.WriteHeader(&tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeChar, Name: name})
		}
		return w.file(h, p)
	case manifest.TypeDir:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case manifest.TypeSymlink:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = os.Readlink(p); err != nil {
			return err
		}
	case manifest.TypeFifo:
		h.Typeflag = tar.TypeFifo
	case manifest.TypeBlock:
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeBlock, e.DevMajor, e.DevMinor
	default: // also whiteouts
		h.Typeflag, h.Devmajor, h.Devminor = tar.TypeChar, e.DevMajor, e.DevMinor
	}
	return w.tw.WriteHeader(h)
}

// file writes a regular file: of one with holes only the data.
func (w *Writer) file(h *tar.Header, p string) (err error) {
	h.Typeflag = tar.TypeReg
	f, err := os.OpenFile(p, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := fi.Size()
	parts := []part{{0, size}}
	before := "" // the data
	if hasHoles(fi) {
		if parts, before, err = describeHoles(h, f, size); err != nil {
			return err
		}
	}
	h.Size = int64(len(before))
	for _, part := range parts {
		h.Size += part.n
	}
	if err := w.tw.WriteHeader(h); err != nil {
		return err
	}
	if _, err := io.WriteString(w.tw, before); err != nil {
		return err
	}
	for _, part := range parts {
		n, err := io.Copy(w.tw, io.NewSectionReader(f, part.off, part.n))
		if err == nil && n != part.n {
			err = errors.New("it became shorter while it was read")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// describeHoles finds where a file has data, and notes it in the header, or returns what is
// written before the data.
func describeHoles(h *tar.Header, f *os.File, size int64) (parts []part, before string, err error) {
	err = sparse.Data(f, 0, size, func(off, n int64) error {
		parts = append(parts, part{off, n})
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	text := formatParts(parts)
	if len(text) > maxMap {
		return []part{{0, size}}, "", nil
	}
	h.PAXRecords[sizeKey] = strconv.FormatInt(size, 10)
	if len(text) > maxRecord {
		h.PAXRecords[mapKey] = strconv.Itoa(len(text))
		return parts, text, nil
	}
	h.PAXRecords[dataKey] = text
	return parts, "", nil
}

// part is where data of a file are.
type part struct{ off, n int64 }

// hasHoles reports whether a large part of a file is not on disk.
func hasHoles(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && fi.Size() >= 1<<20 && st.Blocks*512 < fi.Size()/2
}

func formatParts(parts []part) string {
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d+%d", p.off, p.n)
	}
	return b.String()
}
