package gc

import (
	"time"

	"github.com/opencontainers/go-digest"

	"layered.build/builder/snapshot"
)

// The kinds of what a store holds; BuildKit's names where it has one.
const (
	KindImage    = "image"               // layers of images with a name, and of runs; images without a name
	KindRegular  = "regular"             // layers and records of the build cache
	KindMount    = "exec.cachemount"     // cache mounts
	KindContext  = "source.local"        // what files of build contexts hash to
	KindGit      = "source.git.checkout" // repositories and checkouts
	KindHTTP     = "source.http"         // downloads
	KindBlob     = "blob"                // compressed layers, configurations, manifests
	KindLog      = "log"                 // output of steps
	KindBuild    = "build"               // what became of builds
	KindRun      = "run"                 // kept runs
	KindInternal = "internal"            // everything else
)

// Rule says when a thing may go that nobody uses and nothing needs.
type Rule int

const (
	// Stays: a collection does not remove it.
	Stays Rule = iota
	// Free: it may go at any time.
	Free
	// Spare: it goes only where all is asked for, since the next build of what stays
	// would like to have it.
	Spare
	// Follows: it goes with the layers that it needs, and before them. While they stay it
	// is like Spare, and like Free when none of them is here.
	Follows
	// Kept: it stays, and with it what it needs, unless things may go that were not used
	// for long; then it is Free.
	Kept
)

// Item is one thing that lies in a store, as its keeper describes it.
type Item struct {
	// ID names it for people; "" is Path.
	ID   string
	Kind string
	// Path is where it lies, below the store's folder: what the disk holds there is its
	// size. "" is a thing that has no place of its own.
	Path string
	// LastUsed is zero where the time of the last change at Path says it.
	LastUsed time.Time
	// InUse: somebody works with it now. That a process has pinned it, or what it needs,
	// need not be said.
	InUse       bool
	Rule        Rule
	Description string

	// Layer or Blob is set for what is one.
	Layer snapshot.LayerID
	Blob  digest.Digest
	// Needs are useless without it, or it without them.
	Needs Needs
}

// Needs are layers and blobs.
type Needs struct {
	Layers []snapshot.Stack
	Blobs  []digest.Digest
}
