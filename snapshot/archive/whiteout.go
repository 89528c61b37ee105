package archive

// Names of whiteouts in tars (OCI image-spec, layer.md).
const (
	// WhiteoutPrefix begins the name of an entry that removes another one.
	WhiteoutPrefix = ".wh."
	// OpaqueMarker is the entry that says that its directory hides what lower layers
	// have in it.
	OpaqueMarker = ".wh..wh..opq"
)
