package oci

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot/files"
)

// scopeAnnotation is where a layout says which scope a manifest is of: not every tag tells.
const scopeAnnotation = "build.layered.cache.scope"

// lockFile is held by who replaces an index of a folder.
const lockFile = "builder.lock"

// Local is a folder that is an OCI image layout. It implements shared.Backend.
type Local struct {
	dir, tag string
	digest   digest.Digest // what is read, "" for the tag's
	form     form
}

// NewLocal takes the options of type=local; to says that it will be written to.
// Errors are mistakes.
func NewLocal(a *shared.Attrs, to bool) (*Local, error) {
	key := "src"
	if to {
		key = "dest"
	}
	dir, err := a.Need(key)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, mistake.New("type=local: %s=%s: %w", key, dir, err)
	}
	l := &Local{dir: dir, tag: cmp.Or(a.Take("tag"), "latest")}
	if d := a.Take("digest"); d != "" {
		if l.digest, err = digest.Parse(d); err != nil {
			return nil, mistake.New("type=local: digest=%s: %w", d, err)
		}
	}
	if l.form, err = takeForm(a); err != nil || !to {
		return l, err
	}
	return l, l.prepare()
}

// OpenFolder opens a folder as NewLocal does without further options; to says that it is made
// if it is not there.
func OpenFolder(dir string, to bool) (*Local, error) {
	l := &Local{dir: dir, tag: "latest"}
	if to {
		return l, l.prepare()
	}
	if _, err := os.Lstat(filepath.Join(dir, ocispec.ImageLayoutFile)); err != nil {
		return nil, mistake.New("%s is no OCI layout: %w", dir, err)
	}
	return l, nil
}

// prepare makes the folder a layout, unless it is one. A folder that holds something else
// is refused before anything is written.
func (l *Local) prepare() error {
	if err := os.MkdirAll(filepath.Join(l.dir, ocispec.ImageBlobsDir, "sha256"), 0o755); err != nil {
		return mistake.New("type=local: dest=%s: %w", l.dir, err)
	}
	layout := filepath.Join(l.dir, ocispec.ImageLayoutFile)
	if _, err := os.Lstat(layout); err == nil {
		return nil
	}
	return l.replace(layout, []byte(`{"imageLayoutVersion":"`+ocispec.ImageLayoutVersion+`"}`))
}

func (l *Local) replace(path string, data []byte) error {
	return files.Replace(path, data, files.Replacement{})
}

// String implements shared.Backend.
func (l *Local) String() string { return "folder " + l.dir }

// IndexName implements shared.Named.
func (l *Local) IndexName() string { return cmp.Or(string(l.digest), l.tag) }

func (l *Local) blobPath(d digest.Digest) string {
	return filepath.Join(l.dir, ocispec.ImageBlobsDir, string(d.Algorithm()), d.Encoded())
}

// manifests reads what the layout lists.
func (l *Local) manifests() (ocispec.Index, error) {
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	b, err := os.ReadFile(filepath.Join(l.dir, ocispec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return x, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &x)
	}
	if err != nil {
		return x, fmt.Errorf("read %s: %w", l.dir, err)
	}
	return x, nil
}

func named(x ocispec.Index, tag string) int {
	return slices.IndexFunc(x.Manifests, func(m ocispec.Descriptor) bool { return m.Annotations[ocispec.AnnotationRefName] == tag })
}

// Index implements shared.Indexes.
func (l *Local) Index(_ context.Context, scope string) ([]byte, string, error) {
	x, err := l.manifests()
	if err != nil {
		return nil, "", err
	}
	d := l.digest
	if d == "" {
		at := named(x, tagOf(l.tag, scope))
		if at < 0 {
			return nil, "", fmt.Errorf("%s: %w", l.dir, fs.ErrNotExist)
		}
		d = x.Manifests[at].Digest
	}
	raw, err := l.small(d)
	if err != nil {
		return nil, "", err
	}
	index, err := indexOf(raw)
	if errors.Is(err, errNoCache) && scope == "" {
		data, err := inline(raw, func(d ocispec.Descriptor, _ bool) ([]byte, error) { return l.small(d.Digest) })
		return data, ofImage + d.String(), err
	}
	if err != nil {
		return nil, "", err
	}
	data, err := l.small(index.Digest)
	return data, d.String(), err
}

// Scopes implements shared.Scoped.
func (l *Local) Scopes(context.Context) ([]string, error) {
	x, err := l.manifests()
	if err != nil {
		return nil, err
	}
	scopes := []string{}
	for _, m := range x.Manifests {
		scope, ok := m.Annotations[scopeAnnotation]
		if tag := m.Annotations[ocispec.AnnotationRefName]; ok && tag == tagOf(l.tag, scope) || !ok && tag == l.tag {
			scopes = append(scopes, scope)
		}
	}
	return scopes, nil
}

// small reads and verifies a blob that fits in memory.
func (l *Local) small(d digest.Digest) ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", d, err)
	}
	f, err := os.Open(l.blobPath(d))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, err
	}
	if d.Algorithm().FromBytes(raw) != d {
		return nil, fmt.Errorf("%s is damaged", l.blobPath(d))
	}
	return raw, nil
}

// Replace implements shared.Indexes.
func (l *Local) Replace(ctx context.Context, scope string, data []byte, blobs []shared.Blob, version string) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := l.manifests()
	if err != nil {
		return err
	}
	tag := tagOf(l.tag, scope)
	at := named(x, tag)
	now := ""
	if at >= 0 {
		now = x.Manifests[at].Digest.String()
	}
	if strings.HasPrefix(version, ofImage) {
		return errImage
	}
	if now != version {
		return shared.ErrConflict
	}
	e, err := l.form.encode(data, blobs)
	if err != nil {
		return err
	}
	for d, b := range map[digest.Digest][]byte{e.index.Digest: data, e.config.Digest: e.configRaw, e.desc.Digest: e.raw} {
		if err := l.replace(l.blobPath(d), b); err != nil {
			return err
		}
	}
	desc := e.desc
	desc.Annotations = map[string]string{ocispec.AnnotationRefName: tag, scopeAnnotation: scope}
	if at >= 0 {
		x.Manifests[at] = desc
	} else {
		x.Manifests = append(x.Manifests, desc)
	}
	raw, err := json.Marshal(x)
	if err != nil {
		return err
	}
	if err := l.replace(filepath.Join(l.dir, ocispec.ImageIndexFile), raw); err != nil {
		return err
	}
	if now != "" && now != e.desc.Digest.String() {
		return l.forget(x, digest.Digest(now))
	}
	return nil
}

// forget removes a manifest that nothing lists any more, and its index.
func (l *Local) forget(x ocispec.Index, d digest.Digest) error {
	if slices.ContainsFunc(x.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == d }) {
		return nil
	}
	raw, err := l.small(d)
	if err != nil {
		return nil // it is damaged already
	}
	if index, err := indexOf(raw); err == nil && !l.names(x, index.Digest) {
		if err := removeFile(l.blobPath(index.Digest)); err != nil {
			return err
		}
	}
	return removeFile(l.blobPath(d))
}

// names reports whether any manifest of the layout names a blob, as far as they can be
// read.
func (l *Local) names(x ocispec.Index, d digest.Digest) bool {
	return slices.ContainsFunc(x.Manifests, func(m ocispec.Descriptor) bool {
		raw, err := l.small(m.Digest)
		return err != nil || slices.Contains(digestsIn(raw), d)
	})
}

// digestsIn lists what a manifest or an index names.
func digestsIn(raw []byte) []digest.Digest {
	var m struct {
		Config            ocispec.Descriptor
		Layers, Manifests []ocispec.Descriptor
	}
	if json.Unmarshal(raw, &m) != nil {
		return nil
	}
	out := []digest.Digest{m.Config.Digest}
	for _, d := range append(m.Layers, m.Manifests...) {
		out = append(out, d.Digest)
	}
	return out
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// lock keeps others from replacing an index.
func (l *Local) lock(ctx context.Context) (func(), error) {
	lock, err := files.LockFile(ctx, filepath.Join(l.dir, lockFile), files.Exclusive)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", l.dir, err)
	}
	return func() { _ = lock.Release() }, nil
}

// Missing implements shared.Blobs.
func (l *Local) Missing(_ context.Context, blobs []shared.Blob) ([]shared.Blob, error) {
	var out []shared.Blob
	for _, b := range blobs {
		if fi, err := os.Stat(l.blobPath(b.Digest)); err != nil || fi.Size() != b.Size {
			if !slices.ContainsFunc(out, func(o shared.Blob) bool { return o.Digest == b.Digest }) {
				out = append(out, b)
			}
		}
	}
	return out, nil
}

// Store implements shared.Blobs.
func (l *Local) Store(ctx context.Context, b shared.Blob, content shared.Content) (err error) {
	r, err := content(ctx, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	tmp, err := os.CreateTemp(filepath.Dir(l.blobPath(b.Digest)), ".tmp-*")
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, tmp.Close())
		if err == nil {
			err = os.Rename(tmp.Name(), l.blobPath(b.Digest))
		}
		if err != nil {
			err = errors.Join(err, removeFile(tmp.Name()))
		}
	}()
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(tmp, sum), r); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != b.Digest.Encoded() {
		return fmt.Errorf("the content of %s is %s", b.Digest, got)
	}
	return tmp.Chmod(0o644)
}

// Open implements shared.Blobs.
func (l *Local) Open(_ context.Context, b shared.Blob, offset int64) (io.ReadCloser, error) {
	f, err := os.Open(l.blobPath(b.Digest))
	if err != nil {
		return nil, err
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Remove implements shared.Remover.
func (l *Local) Remove(ctx context.Context, blobs []shared.Blob) error {
	unlock, err := l.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	x, err := l.manifests()
	if err != nil {
		return err
	}
	kept := map[digest.Digest]bool{}
	for _, m := range x.Manifests {
		raw, err := l.small(m.Digest)
		if err != nil {
			return err // what it names is not known
		}
		for _, d := range digestsIn(raw) {
			kept[d] = true
		}
	}
	for _, b := range blobs {
		if !kept[b.Digest] {
			if err := removeFile(l.blobPath(b.Digest)); err != nil {
				return err
			}
		}
	}
	return nil
}
