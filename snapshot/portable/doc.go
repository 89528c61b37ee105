// Package portable has the form in which a store leaves a machine (docs/FORMAT.md): a tar of
// its folders that says what owners, modes, attributes and devices files have as layers have
// them, however the store that is written, and the one that is made of it, keep them.
package portable

const (
	// first and last are the names of the first and the last member. The first has the
	// version, the last says how many members are between them.
	first = "builder-store"
	last  = "builder-store.end"

	version = "builder-store 1\n"

	// The PAX records of this form: that a directory is opaque, and of a file with holes its
	// size and where its data are; if that is long, how many bytes say it before the data.
	opaqueKey = "BUILDER.opaque"
	sizeKey   = "BUILDER.size"
	dataKey   = "BUILDER.data"
	mapKey    = "BUILDER.map"
	xattrKey  = "SCHILY.xattr."

	// maxRecord is how long a record becomes, in bytes: readers of tars refuse headers of more
	// than 1 MiB. maxMap is how long a map may be; a file with more parts is written whole.
	maxRecord = 256 << 10
	maxMap    = 64 << 20
)
