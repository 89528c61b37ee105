package actions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"layered.build/builder/cache/azblob"
	"layered.build/builder/cache/object"
	"layered.build/builder/cache/shared"
)

// maxIndex is how many bytes of an index are read.
const maxIndex = 256 << 20

// Place is the cache of one branch. Blobs are those of all that the token may read.
type Place struct {
	blobs   *object.Place
	bucket  *bucket
	entries *entries
	branch  scope
	others  []scope
}

var (
	_ shared.Backend = (*Place)(nil)
	_ shared.Several = (*Place)(nil)
)

func newPlace(s Settings, o *options) *Place {
	said := readToken(o.token)
	secrets := &object.Secrets{}
	secrets.Add(o.token)
	e := &entries{
		api: &api{at: o.at, client: &object.Client{
			HTTP:    object.NewHTTP(object.NewTransport(s.Timeouts, nil)),
			Service: &login{token: o.token, ends: said.ends},
			Retry:   s.Retry,
			Clock:   &object.Clock{},
			Secrets: secrets,
		}},
		seen: map[string]entry{}, failed: map[string]bool{}, patience: cmp.Or(s.Patience, 30*time.Second),
	}
	b := &bucket{e}
	branches := said.branches()
	return &Place{
		blobs:  object.NewPlace(b, object.Options{Layouts: []object.Layout{{Blobs: blobs}}, Part: s.Part, Retry: s.Retry}),
		bucket: b, entries: e, branch: branches[0], others: branches[1:],
	}
}

// String implements shared.Backend.
func (p *Place) String() string {
	if p.branch.Scope == "" {
		return "GitHub Actions at " + p.entries.api.at.Host
	}
	return "GitHub Actions, " + p.branch.Scope
}

// Others implements shared.Several with the other branches that the token may read: that of a
// pull request reads what the branch has that it is for.
func (p *Place) Others() []shared.Backend {
	var out []shared.Backend
	for _, s := range p.others {
		o := *p
		o.branch, o.others = s, nil
		out = append(out, &o)
	}
	return out
}

// Missing implements shared.Blobs.
func (p *Place) Missing(ctx context.Context, blobs []shared.Blob) ([]shared.Blob, error) {
	return p.blobs.Missing(ctx, blobs)
}

// Store implements shared.Blobs. A blob that is there, and was not just looked for, is written
// once more, and read instead from then on.
func (p *Place) Store(ctx context.Context, b shared.Blob, content shared.Content) error {
	if err := p.writable(); err != nil {
		return fmt.Errorf("store blob %s: %w", b.Digest, err)
	}
	return p.blobs.Store(ctx, b, content)
}

// Open implements shared.Blobs.
func (p *Place) Open(ctx context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	return p.blobs.Open(ctx, b, offset)
}

func (p *Place) writable() error {
	if p.branch.Permission&mayWrite == 0 {
		return errors.New("the job's token may only read: no branch of it can be written to")
	}
	return nil
}

// Index implements shared.Indexes; the version is the entry's number. One whose transfer
// breaks off is asked for again.
func (p *Place) Index(ctx context.Context, scope string) ([]byte, string, error) {
	name := indexName(p.branch.Scope, scope)
	for left := 3; ; left-- {
		s, n, err := p.entries.open(ctx, name, true)
		if err != nil {
			return nil, "", err
		}
		data, err := readIndex(ctx, s, name)
		cut := errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
		if !cut || left == 1 || ctx.Err() != nil {
			return data, strconv.Itoa(n), err
		}
	}
}

func readIndex(ctx context.Context, s *azblob.Signed, name string) ([]byte, error) {
	r, _, err := s.Get(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxIndex+1))
	if err == nil && len(data) > maxIndex {
		err = fmt.Errorf("get %s: more than %d bytes are no index", name, maxIndex)
	}
	return data, err
}

// Replace implements shared.Indexes with the entry of the next number: who finds that taken
// comes too late.
func (p *Place) Replace(ctx context.Context, scope string, data []byte, blobs []shared.Blob, version string) error {
	if err := p.writable(); err != nil {
		return err
	}
	after := 0
	if version != "" {
		var err error
		if after, err = strconv.Atoi(version); err != nil {
			return fmt.Errorf("%w: version %q is none of an entry", shared.ErrConflict, version)
		}
	}
	name := indexName(p.branch.Scope, scope)
	if x, err := p.entries.look(ctx, name); err != nil {
		return err
	} else if x.n > after {
		return fmt.Errorf("%w: %s has entry %d", shared.ErrConflict, name, x.n)
	}
	p.use(ctx, blobs)
	err := p.entries.write(ctx, name, after, data)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %w", shared.ErrConflict, err)
	}
	return err
}

const (
	// maxUsed is how many blobs are looked for when an index is written that names them.
	maxUsed = 256
	// usedAtOnce is how many of them at once.
	usedAtOnce = 16
)

// use looks for blobs that this process has not asked for: the service removes what nobody
// asks for in a week, and an index is read more often than all that it names. Of very many
// others have their turn each time. Failures do not matter.
func (p *Place) use(ctx context.Context, list []shared.Blob) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(usedAtOnce)
	left := maxUsed
	for _, i := range rand.Perm(len(list)) {
		name := blobs + list[i].Digest.String()
		if _, seen := p.entries.last(name); seen || left == 0 {
			continue
		}
		left--
		g.Go(func() error {
			_, err := p.entries.look(ctx, name)
			return err
		})
	}
	_ = g.Wait() // the first failure ends it
}
