package snapshot

// Mount is a file system that can be attached: an overlay of layer directories
// (read-only when Upper is ""), or one directory bound.
type Mount struct {
	// Lower are the layer directories, topmost first.
	Lower []string
	// Upper and Work receive changes; both are on one file system.
	Upper, Work string
}

// Attach mounts m at target (a directory) in the calling thread's mount
// namespace. No Lower and an Upper binds Upper; one Lower and no Upper binds it
// read-only; neither gives an empty read-only directory.
func (m Mount) Attach(target string) error { return errTODO }
