package snapshot

// ResolvePath follows the symlinks of a path inside a tree, absolute ones too,
// and returns the path without them; ".." stops at the root. The last component
// is followed only if followLast. Components that do not exist are kept as they
// are. Too many links are an error that matches syscall.ELOOP.
func ResolvePath(t Tree, path string, followLast bool) (string, error) { return "", errTODO }

// Walk calls fn for root and everything below it, parents first, siblings sorted
// by name. fs.SkipDir and fs.SkipAll from fn have their meaning.
func Walk(t Tree, root string, fn func(*Entry) error) error { return errTODO }
