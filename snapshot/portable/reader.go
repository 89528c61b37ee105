package portable

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
)

// ErrFormat says that a stream is not in this form, or not whole.
var ErrFormat = errors.New("not the archive of a store, or not all of it")

// Place says what may be made at a name of a store, and with what.
type Place struct {
	// Maker makes it; nil: there is nothing of that name in a store.
	Maker *object.Maker
	// Any says that it may be anything; otherwise files and directories are all there is.
	Any bool
}

// Reader makes the folders of a store again.
type Reader struct {
	// Dir is the folder that they are made in. Nobody else uses it.
	Dir string
	// Place is asked about every member.
	Place func(name string) Place

	tr    *tar.Reader
	made  map[string]bool // directories
	after []pending       // their metadata, which is set at the end
	count int
}

type pending struct {
	maker *object.Maker
	path  string
	entry manifest.Entry
}

// Read reads a stream to its end. After an error what was made stays, for the caller to remove.
// Nothing is made outside of r.Dir, whatever the stream says. The error matches ErrFormat if the
// stream is at fault.
func (r *Reader) Read(ctx context.Context, stream io.Reader) error {
	r.tr, r.made = tar.NewReader(stream), map[string]bool{".": true}
	h, err := r.tr.Next()
	if err != nil || h.Name != first {
		return ErrFormat
	}
	if text, err := io.ReadAll(io.LimitReader(r.tr, 100)); err != nil || string(text) != version {
		return fmt.Errorf("%w: it is of version %q, and this program reads %q", ErrFormat, strings.TrimSpace(string(text)), strings.TrimSpace(version))
	}
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		h, err := r.tr.Next()
		if err != nil {
			return fmt.Errorf("%w: %v", ErrFormat, err)
		}
		if h.Name == last {
			break
		}
		if err := r.member(h); err != nil {
			return fmt.Errorf("member %q: %w", h.Name, err)
		}
		r.count++
	}
	text, err := io.ReadAll(io.LimitReader(r.tr, 100))
	if err != nil || strings.TrimSpace(string(text)) != strconv.Itoa(r.count) {
		return fmt.Errorf("%w: it has %d members, not %q", ErrFormat, r.count, strings.TrimSpace(string(text)))
	}
	for i := len(r.after) - 1; i >= 0; i-- {
		p := r.after[i]
		if err := p.maker.SetMeta(p.path, &p.entry); err != nil {
			return err
		}
	}
	return nil
}

// isInside says that a name is one below a folder, written in the only way, and that the
// directory that it is in was made here: no link leads there.
func (r *Reader) isInside(name string) bool {
	return filepath.IsLocal(name) && path.Clean(name) == name && name != "." && r.made[path.Dir(name)]
}

func (r *Reader) member(h *tar.Header) error {
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	if !r.isInside(name) {
		return fmt.Errorf("%w: the name leads elsewhere, or to nothing", ErrFormat)
	}
	at := r.Place(name)
	if at.Maker == nil {
		return fmt.Errorf("%w: a store has nothing of that name", ErrFormat)
	}
	e, err := entryOf(h)
	if err != nil {
		return err
	}
	if e.Type != manifest.TypeFile && e.Type != manifest.TypeDir && !at.Any {
		return fmt.Errorf("%w: it is neither a file nor a folder", ErrFormat)
	}
	p := filepath.Join(r.Dir, name)
	switch {
	case h.Typeflag == tar.TypeLink:
		if !r.isInside(h.Linkname) {
			return fmt.Errorf("%w: it is a link to %q", ErrFormat, h.Linkname)
		}
		return os.Link(filepath.Join(r.Dir, h.Linkname), p)
	case e.Type == manifest.TypeFile:
		return r.file(at.Maker, p, h, e)
	}
	if err := at.Maker.Create(p, e); err != nil {
		return err
	}
	if e.Type == manifest.TypeDir {
		r.made[name] = true
		r.after = append(r.after, pending{at.Maker, p, *e})
		return nil
	}
	return at.Maker.SetMeta(p, e)
}

// entryOf says what a member is to be. Links are files.
func entryOf(h *tar.Header) (*manifest.Entry, error) {
	e := &manifest.Entry{
		Type: manifest.TypeFile, Mode: uint32(h.Mode & 0o7777), UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime,
		Opaque: h.PAXRecords[opaqueKey] != "",
	}
	for k, v := range h.PAXRecords {
		if k, ok := strings.CutPrefix(k, xattrKey); ok {
			if e.Xattrs == nil {
				e.Xattrs = map[string]string{}
			}
			e.Xattrs[k] = v
		}
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeLink:
	case tar.TypeDir:
		e.Type = manifest.TypeDir
	case tar.TypeSymlink:
		e.Type, e.Linkname = manifest.TypeSymlink, h.Linkname
	case tar.TypeFifo:
		e.Type = manifest.TypeFifo
	case tar.TypeBlock, tar.TypeChar:
		e.Type, e.DevMajor, e.DevMinor = manifest.TypeBlock, h.Devmajor, h.Devminor
		if h.Typeflag == tar.TypeChar {
			e.Type = manifest.TypeChar
		}
		if h.Typeflag == tar.TypeChar && h.Devmajor == 0 && h.Devminor == 0 {
			e = &manifest.Entry{Type: manifest.TypeWhiteout}
		}
	default:
		return nil, fmt.Errorf("%w: members of type %q are not known", ErrFormat, h.Typeflag)
	}
	return e, nil
}

func (r *Reader) file(maker *object.Maker, p string, h *tar.Header, e *manifest.Entry) (err error) {
	size, parts, err := r.partsOf(h)
	if err != nil {
		return err
	}
	f, err := object.CreateFile(p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for _, part := range parts {
		if _, err := io.CopyN(io.NewOffsetWriter(f, part.off), r.tr, part.n); err != nil {
			return fmt.Errorf("%w: %v", ErrFormat, err)
		}
	}
	if len(parts) == 0 || parts[len(parts)-1].off+parts[len(parts)-1].n < size {
		if err := f.Truncate(size); err != nil {
			return err
		}
	}
	return maker.SetFileMeta(f, e)
}

// partsOf says how large a file is, and where its data are, in order. It reads what is before
// them.
func (r *Reader) partsOf(h *tar.Header) (int64, []part, error) {
	bad := fmt.Errorf("%w: its holes are not described well", ErrFormat)
	text, ok := h.PAXRecords[sizeKey]
	if !ok {
		return h.Size, []part{{0, h.Size}}, nil
	}
	size, err := strconv.ParseInt(text, 10, 64)
	if err != nil || size < 0 {
		return 0, nil, bad
	}
	where, data := h.PAXRecords[dataKey], h.Size
	if text, ok := h.PAXRecords[mapKey]; ok {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > maxMap || n > data {
			return 0, nil, bad
		}
		b, err := io.ReadAll(io.LimitReader(r.tr, n))
		if err != nil {
			return 0, nil, fmt.Errorf("%w: %v", ErrFormat, err)
		}
		where, data = string(b), data-n
	}
	var parts []part
	end, sum := int64(0), int64(0)
	for text := range strings.SplitSeq(where, ",") {
		if text == "" {
			break
		}
		off, n, _ := strings.Cut(text, "+")
		var p part
		var err2 error
		p.off, err = strconv.ParseInt(off, 10, 64)
		p.n, err2 = strconv.ParseInt(n, 10, 64)
		if err != nil || err2 != nil || p.off < end || p.n < 0 || p.n > size-p.off {
			return 0, nil, bad
		}
		end, sum = p.off+p.n, sum+p.n
		parts = append(parts, p)
	}
	if sum != data {
		return 0, nil, bad
	}
	return size, parts, nil
}
