package snapshot

// Mount is a file system that can be attached: an overlay of layer directories
// (read-only when Upper is ""), or one directory bound.
type Mount struct {
	// Lower are the layer directories, topmost first.
	Lower []string
	// Upper and Work receive changes; both are on one file system.
	Upper, Work string
}
