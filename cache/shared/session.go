package shared

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"layered.build/builder/cache"
	"layered.build/builder/cache/shared/hide"
	"layered.build/builder/snapshot"
)

// Source is a place that is imported from.
type Source struct {
	Backend
	From
}

// Target is a place that is exported to.
type Target struct {
	Backend
	To
}

// Store is what a Session needs of the layers of this machine.
type Store interface {
	// Lookup returns the layer that completes a chain, if its data are here.
	Lookup(chain snapshot.ChainID) (snapshot.Layer, bool)
	// Known is Lookup, also of layers that can be fetched.
	Known(chain snapshot.ChainID) (snapshot.Layer, bool)
	AddLazy(parent snapshot.Stack, l snapshot.LazyLayer) (snapshot.Layer, error)
	// WriteEntries writes the list of a layer's entries; the error matches fs.ErrNotExist
	// if the layer is not here.
	WriteEntries(l snapshot.Layer, w io.Writer) error
	// Name gives layers that are known here only the names that all know them by.
	Name(ctx context.Context, parent, layers snapshot.Stack) (snapshot.Stack, error)
}

// Packer makes compressed forms of layers.
type Packer interface {
	// Pack makes sure that the compressed form of the last layer of a stack is here, and
	// describes it.
	Pack(ctx context.Context, stack snapshot.Stack, how Compression) (ocispec.Descriptor, error)
	// Known is the form that a layer is known to have.
	Known(l snapshot.Layer) (ocispec.Descriptor, bool)
	// Packed opens a form that Pack made.
	Packed(form ocispec.Descriptor) Content
}

// Options configure a Session.
type Options struct {
	// Local are the records of this machine. Required. If it is a cache.History too, so is
	// the Session.
	Local  cache.Cache
	Store  Store
	Packer Packer
	From   []Source
	To     []Target
	// Mounts, unless nil, sends the contents of cache mounts.
	Mounts MountSender
	// Salt returns a secret of the store: what explains misses is hashed with it.
	Salt func() ([]byte, error)
	// Lock, unless nil, serialises what processes of this machine do with a name.
	Lock func(ctx context.Context, name string) (unlock func(), err error)
	// Task runs what takes time under a name for people; nil: it is just run.
	Task func(ctx context.Context, name string, fn func(context.Context) error) error
	// Tell is told of what went wrong and does not stop the build; nil: nobody is. It is
	// called from several goroutines.
	Tell func(text string)
}

// Session is the cache of one build: the machine's own records, and the places that it
// imports from and exports to. It is safe for concurrent use.
type Session struct {
	opts    Options
	sources []*importer
	targets []*exporter

	mu    sync.Mutex // guards what follows
	noted map[cache.Key]*cache.Record
	lazy  map[snapshot.ChainID]*restored
	said  map[string]bool
	// spoiled are blobs of mounts, and lists of layers' entries, that are damaged or gone, by
	// place and digest.
	spoiled map[string]bool
}

// restored is a layer that a place promised.
type restored struct {
	layer  snapshot.Layer
	from   *importer
	blob   Blob
	banned bool // its data are damaged or gone
	wrong  bool // they are there, but others
}

// New returns a Session. Nothing is read or written yet.
func New(o Options) *Session {
	if o.Tell == nil {
		o.Tell = func(string) {}
	}
	if o.Task == nil {
		o.Task = func(ctx context.Context, _ string, fn func(context.Context) error) error { return fn(ctx) }
	}
	s := &Session{opts: o, noted: map[cache.Key]*cache.Record{}, lazy: map[snapshot.ChainID]*restored{}, said: map[string]bool{}, spoiled: map[string]bool{}}
	for _, src := range o.From {
		s.sources = append(s.sources, &importer{Source: src, session: s, turn: make(chan struct{}, 1)})
	}
	for _, to := range o.To {
		s.targets = append(s.targets, newExporter(s, to))
	}
	return s
}

// Get implements cache.Cache: it asks the places in their order if this machine has no
// record. What they promise is believed until it is read.
func (s *Session) Get(ctx context.Context, key cache.Key) (*cache.Record, error) {
	rec, err := s.opts.Local.Get(ctx, key)
	if err == nil && s.usable(rec) {
		s.note(key, rec)
		return rec, nil
	}
	if err != nil && !errors.Is(err, cache.ErrMiss) {
		return nil, err
	}
	return s.fetch(ctx, key, time.Time{})
}

// GetSince is Get of a record whose step ran since a time.
func (s *Session) GetSince(ctx context.Context, key cache.Key, since time.Time) (*cache.Record, error) {
	rec, err := s.opts.Local.Get(ctx, key)
	if err == nil && s.usable(rec) && rec.Created.After(since) {
		s.note(key, rec)
		return rec, nil
	}
	if err != nil && !errors.Is(err, cache.ErrMiss) {
		return nil, err
	}
	return s.fetch(ctx, key, since)
}

// fetch asks the places in their order for a record that is younger than a time.
func (s *Session) fetch(ctx context.Context, key cache.Key, since time.Time) (*cache.Record, error) {
	for _, src := range s.sources {
		rec, err := src.get(ctx, key, since)
		if err != nil {
			return nil, err
		}
		if rec == nil || !s.usable(rec) {
			continue
		}
		s.note(key, rec)
		return rec, s.opts.Local.Put(ctx, key, rec)
	}
	return nil, cache.ErrMiss
}

// Put implements cache.Cache.
func (s *Session) Put(ctx context.Context, key cache.Key, rec *cache.Record) error {
	if err := s.opts.Local.Put(ctx, key, rec); err != nil {
		return err
	}
	s.note(key, rec)
	if s.promised(rec) { // and may not be there
		return nil
	}
	for _, t := range s.targets {
		t.ahead(rec)
	}
	return nil
}

// promised reports whether the data of a record's results are in a place only.
func (s *Session) promised(rec *cache.Record) bool {
	for _, o := range rec.Outputs {
		if len(o) > 0 && s.Lazy(o[len(o)-1]) {
			return true
		}
	}
	return false
}

// Elsewhere compares a step with the latest one of a name that the places have: it returns
// the parts of both, with hidden values; nil if none was written with this salt.
func (s *Session) Elsewhere(ctx context.Context, name string, parts []cache.Part) (before, after []cache.Part) {
	if s.opts.Salt == nil {
		return nil, nil
	}
	salt, err := s.opts.Salt()
	if err != nil {
		return nil, nil
	}
	hidden, last := hide.New(salt), &record{}
	fits := hidden.Of(name)
	for _, src := range s.sources {
		scopes, _ := src.load(ctx)
		for _, sc := range scopes {
			for _, r := range sc.records {
				if r.Created > last.Created && fits(r.Hidden) {
					last = r
				}
			}
		}
	}
	if last.Key == "" {
		return nil, nil
	}
	return hidden.Compare(last.Hidden, parts)
}

// Latest implements cache.History with the records of this machine.
func (s *Session) Latest(ctx context.Context, project, name string) (*cache.Record, error) {
	if h, ok := s.opts.Local.(cache.History); ok {
		return h.Latest(ctx, project, name)
	}
	return nil, cache.ErrMiss
}

// Places says, for people, that the places that have been read had no record: what they have
// none of is known.
func (s *Session) Places() []string {
	var names []string
	for _, src := range s.sources {
		switch {
		case src.refused.Load():
			names = append(names, "no entry that may be used in "+src.String())
		case src.wasRead():
			names = append(names, "no entry in "+src.String())
		}
	}
	return names
}

// note remembers what the build uses.
func (s *Session) note(key cache.Key, rec *cache.Record) {
	r := *rec
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted[key] = &r
}

// usable reports whether no layer of a record is known to be damaged or gone.
func (s *Session) usable(rec *cache.Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole(rec)
}

// whole is usable. The caller holds s.mu.
func (s *Session) whole(rec *cache.Record) bool {
	if len(s.lazy) == 0 {
		return true
	}
	for _, out := range rec.Outputs {
		for _, l := range out {
			chain := l.Completes()
			if r := s.lazy[chain]; r != nil && r.banned {
				if _, here := s.opts.Store.Lookup(chain); !here {
					return false
				}
			}
		}
	}
	return true
}

// Doubts reports whether an error comes from what a place promised and has not.
func (s *Session) Doubts(err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.suspects(err)) > 0
}

// suspects are the layers that a build has failed for. The caller holds s.mu.
func (s *Session) suspects(err error) []*restored {
	var fetch *snapshot.FetchError
	if !errors.As(err, &fetch) || errors.Is(err, unix.ENOSPC) {
		return nil
	}
	var bad []*restored
	for _, r := range s.lazy {
		if !r.banned && r.layer.DiffID == fetch.DiffID && r.blob.Digest == fetch.Blob {
			bad = append(bad, r)
		}
	}
	return bad
}

// Recover reports whether a build that failed may be begun again because what a place
// promised turned out to be damaged or gone; that is told, and is a miss from now on.
func (s *Session) Recover(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	s.mu.Lock()
	bad := s.suspects(err)
	for _, r := range bad {
		r.banned, r.wrong = true, !errors.Is(err, fs.ErrNotExist)
	}
	s.mu.Unlock()
	for _, r := range bad {
		for _, t := range s.targets {
			t.doubt(r.blob)
		}
		s.tellOnce("cache "+r.from.String()+": layer "+string(r.layer.DiffID)+" is damaged or gone: what needs it is made again", "")
	}
	return len(bad) > 0
}

// damaged reports whether a place may have other bytes than those of a layer's form,
// whatever it says: it is known of that one, or the place had other bytes of another layer
// and did not promise this one.
func (s *Session) damaged(place string, chain snapshot.ChainID, d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	promised := s.lazy[chain] != nil && !s.lazy[chain].banned
	for _, r := range s.lazy {
		if r.banned && r.from.String() == place && (r.blob.Digest == d || r.wrong && !promised) {
			return true
		}
	}
	return false
}

// tellOnce tells of something once; a key that is not "" stands for the text.
func (s *Session) tellOnce(text, key string) {
	if key == "" {
		key = text
	}
	s.mu.Lock()
	was := s.said[key]
	s.said[key] = true
	s.mu.Unlock()
	if !was {
		s.opts.Tell(text)
	}
}

// Lazy reports whether a layer's data are in a place only, whose content nobody else is
// known to have.
func (s *Session) Lazy(l snapshot.Layer) bool {
	chain := l.Completes()
	s.mu.Lock()
	_, ok := s.lazy[chain]
	s.mu.Unlock()
	if !ok {
		return false
	}
	_, here := s.opts.Store.Lookup(chain)
	return !here
}

var (
	_ cache.Cache   = (*Session)(nil)
	_ cache.History = (*Session)(nil)

	_ snapshot.Outlines = (*Session)(nil)
)
