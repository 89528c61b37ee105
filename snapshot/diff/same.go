package diff

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"

	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/manifest"
)

// sameObject reports whether an object of the upper directory is what the lower
// layers show at its path, by the rules of BuildKit's differ (continuity's
// sameDirent): type, mode, owner, device and attributes; for what is no directory
// size and modification time too, and the content where both times are whole
// seconds and so may have been cut off.
func (d *Differ) sameObject(lower *unix.Stat_t, lowerPath string, upper *unix.Stat_t, upperPath string, e *manifest.Entry) (bool, error) {
	if lower.Mode != upper.Mode || lower.Uid != upper.Uid || lower.Gid != upper.Gid || lower.Rdev != upper.Rdev {
		return false, nil
	}
	was, _, err := d.Maker.Describe(lowerPath, lower)
	if err != nil {
		return false, err
	}
	if was.Type != e.Type || was.UID != e.UID || was.GID != e.GID || was.DevMajor != e.DevMajor || was.DevMinor != e.DevMinor {
		return false, nil
	}
	if !maps.Equal(was.Xattrs, e.Xattrs) {
		return false, nil
	}
	if e.Type == manifest.TypeDir {
		return true, nil
	}
	if lower.Size != upper.Size || lower.Mtim.Sec != upper.Mtim.Sec || lower.Mtim.Nsec != upper.Mtim.Nsec {
		return false, nil
	}
	if upper.Mtim.Nsec != 0 {
		return true, nil
	}
	switch e.Type {
	case manifest.TypeSymlink:
		target, err := os.Readlink(lowerPath)
		return target == e.Linkname, err
	case manifest.TypeFile:
		return sameContent(lowerPath, upperPath)
	}
	return true, nil
}

func sameContent(a, b string) (bool, error) {
	fa, err := os.Open(a)
	if err != nil {
		return false, err
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return false, err
	}
	defer fb.Close()
	ba, bb := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		na, erra := io.ReadFull(fa, ba)
		nb, errb := io.ReadFull(fb, bb)
		if !bytes.Equal(ba[:na], bb[:nb]) {
			return false, nil
		}
		enda, endb := isEnd(erra), isEnd(errb)
		if enda && endb {
			return true, nil
		}
		if enda != endb {
			return false, nil
		}
		if erra != nil || errb != nil {
			return false, errors.Join(erra, errb)
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }
