package diff

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// RemoveStubs removes empty files and directories below upper: the mountpoints that a
// sandbox made. Deeper ones are removed first, so that what only held them goes too;
// what is not empty stays. Symlinks that the container made must not lead the removal
// elsewhere.
func RemoveStubs(upper string, paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	root, err := os.OpenRoot(upper)
	if err != nil {
		return err
	}
	defer root.Close()
	paths = slices.Clone(paths)
	slices.SortFunc(paths, func(a, b string) int { return strings.Count(b, "/") - strings.Count(a, "/") })
	for _, p := range paths {
		p = strings.TrimPrefix(filepath.Clean("/"+p), "/")
		st, err := root.Lstat(p)
		if err != nil || p == "" || (!st.IsDir() && (!st.Mode().IsRegular() || st.Size() > 0)) {
			continue
		}
		if st.IsDir() {
			for _, mark := range fuseMarks() {
				root.Remove(p + "/" + mark) // the attribute says the same
			}
		}
		root.Remove(p) // a directory that is not empty stays
	}
	return nil
}

// fuseMarks are objects by which fuse-overlayfs marks an opaque directory, beside
// the attribute.
func fuseMarks() [2]string { return [2]string{".wh..wh..opq", ".wh..opq"} }
