// Package winlayers gives layers the form that images for Windows have.
package winlayers

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"time"

	"layered.build/builder/snapshot"
)

// Windows keeps what it cannot say otherwise in PAX records (hcsshim's
// backuptar, and BuildKit's winlayers for layers that are made on Linux).
const (
	attributes   = "MSWINDOWS.fileattr"
	security     = "MSWINDOWS.rawsd"
	creationTime = "LIBARCHIVE.creationtime"
)

// Security descriptors, as Windows gives to what administrators make.
const (
	// O:BAG:SYD:(A;OICI;FA;;;BA)(A;OICI;FA;;;SY)(A;;FA;;;BA)(A;OICIIO;GA;;;CO)(A;OICI;0x1200a9;;;BU)(A;CI;LC;;;BU)(A;CI;DC;;;BU)
	dirSecurity = "AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgCoAAcAAAAAAxgA/wEfAAECAAAAAAAFIAAAACACAAAAAxQA/wEfAAEBAAAAAAAFEgAAAAAAGAD/AR8AAQIAAAAAAAUgAAAAIAIAAAALFAAAAAAQAQEAAAAAAAMAAAAAAAMYAKkAEgABAgAAAAAABSAAAAAhAgAAAAIYAAQAAAABAgAAAAAABSAAAAAhAgAAAAIYAAIAAAABAgAAAAAABSAAAAAhAgAA"
	// O:BAG:SYD:(A;;FA;;;BA)(A;;FA;;;SY)(A;;0x1200a9;;;BU)
	fileSecurity = "AQAEgBQAAAAkAAAAAAAAADAAAAABAgAAAAAABSAAAAAgAgAAAQEAAAAAAAUSAAAAAgBMAAMAAAAAABgA/wEfAAECAAAAAAAFIAAAACACAAAAABQA/wEfAAEBAAAAAAAFEgAAAAAAGACpABIAAQIAAAAAAAUgAAAAIQIAAA=="
)

// Convert turns layers into those that an image for Windows has: the files
// below Files, beside an empty Hives, with Windows' attributes.
func Convert(ctx context.Context, store *snapshot.Store, stack snapshot.Stack) (snapshot.Stack, error) {
	var out snapshot.Stack
	for _, l := range stack {
		made, err := convert(ctx, store, out, l)
		if err != nil {
			return nil, fmt.Errorf("make layer %s one for Windows: %w", l.DiffID, err)
		}
		made.Created = l.Created
		out = append(out[:len(out):len(out)], made)
	}
	return out, nil
}

func convert(ctx context.Context, store *snapshot.Store, parent snapshot.Stack, l snapshot.Layer) (snapshot.Layer, error) {
	in, err := store.Tar(ctx, l)
	if err != nil {
		return snapshot.Layer{}, err
	}
	defer in.Close()
	pr, pw := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(rewrite(pw, in))
	}()
	made, err := store.Import(ctx, parent, "", pr)
	pr.CloseWithError(io.ErrClosedPipe)
	<-done
	return made, err
}

func rewrite(w io.Writer, r io.Reader) error {
	tr, tw := tar.NewReader(r), tar.NewWriter(w)
	for _, name := range []string{"Hives", "Files"} {
		h := &tar.Header{Name: name, Typeflag: tar.TypeDir, ModTime: time.Unix(0, 0)}
		setHeader(h)
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
	}
	for {
		h, err := tr.Next()
		if err == io.EOF {
			// The reader verifies the layer when its end is read.
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			return tw.Close()
		}
		if err != nil {
			return err
		}
		h.Name = "Files/" + h.Name
		if h.Typeflag == tar.TypeLink {
			h.Linkname = "Files/" + h.Linkname
		}
		setHeader(h)
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(tw, tr); err != nil {
			return err
		}
	}
}

func setHeader(h *tar.Header) {
	h.Format = tar.FormatPAX
	if h.PAXRecords == nil {
		h.PAXRecords = map[string]string{}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		h.Mode |= 1 << 14
		h.PAXRecords[attributes] = "16"
	case tar.TypeReg:
		h.Mode |= 1 << 15
		h.PAXRecords[attributes], h.PAXRecords[security] = "32", fileSecurity
	}
	if h.Typeflag == tar.TypeDir && h.Name != "Hives" && h.Name != "Files" {
		h.PAXRecords[security] = dirSecurity
	}
	h.PAXRecords[creationTime] = fmt.Sprintf("%d.%09d", h.ModTime.Unix(), h.ModTime.Nanosecond())
}
