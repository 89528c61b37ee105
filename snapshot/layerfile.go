package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"layered.build/builder/snapshot/files"
	"layered.build/builder/snapshot/manifest"
	"layered.build/builder/snapshot/object"
	"layered.build/builder/snapshot/tree"
)

// The files of a layer's folder.
const (
	layerFile    = "layer.json" // layerRecord; there if and only if the layer is complete
	manifestFile = "manifest"
	dirForm      = "dir"      // overlay-ready directory
	tarForm      = "tar"      // canonical tar
	splitFile    = "tarsplit" // what the tar of a pulled layer has beside file contents
	dupForm      = "dup"      // file contents that a later entry of the same tar replaced
	blobFile     = "blob.json"
	clampedFile  = "clamped.json" // what was derived from the layer (see Clamp)
	diffFile     = "diffid"       // the digest of the tar of a layer without a name (see Name)
)

// emptyTar is the DiffID of a tar without entries.
const emptyTar = DiffID("sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef")

// layerRecord is the content of layer.json.
type layerRecord struct {
	Layer Layer
	// Root is the metadata of the root directory, if the layer's tar has it.
	Root *object.Root `json:",omitempty"`
	// Whiteouts says that the layer has some, so that its directory cannot be
	// bound alone.
	Whiteouts bool `json:",omitempty"`
	// Foreign says that the tar is somebody else's, to be rebuilt from tarsplit.
	Foreign bool `json:",omitempty"`
	// Movable says that the directory of a foreign layer is the same whatever lies
	// below.
	Movable bool `json:",omitempty"`
	// Times says what an epoch would change; nil for foreign layers.
	Times *layerTimes `json:",omitempty"`
	// Aliases are further paths of the layer's entries (tree.Alias).
	Aliases []alias `json:",omitempty"`

	// holes is how much of the layer's size takes no room; only where it was made.
	holes int64
}

// alias is a tree.Alias; paths are bytes.
type alias struct{ Path, Entry []byte }

func aliasesOf(found []tree.Alias) []alias {
	var out []alias
	for _, a := range found {
		out = append(out, alias{[]byte(a.Path), []byte(a.Entry)})
	}
	return out
}

// aliases are those of the layer as trees take them.
func (r *layerRecord) aliases() []tree.Alias {
	var out []tree.Alias
	for _, a := range r.Aliases {
		out = append(out, tree.Alias{Path: string(a.Path), Entry: string(a.Entry)})
	}
	return out
}

// isForeign reports whether nobody knows that the layer was made by this program.
func (r *layerRecord) isForeign() bool {
	return r.Foreign && r.Layer.Content == foreignContent(r.Layer.DiffID)
}

// idOf returns the name of the layer that completes a chain. It is derived from
// the chain for all layers, so that all processes agree and a layer that is made
// twice is stored once.
func idOf(chain ChainID) LayerID { return LayerID(digest.Digest(chain).Encoded()) }

// extend returns the chain of parent with one more layer.
func extend(parent Stack, diffID DiffID) ChainID { return parent.ChainID().With(diffID) }

// foreignContent is the Content of a layer whose tar was not made by this program, as far
// as is known.
func foreignContent(d DiffID) digest.Digest { return digest.FromString("tar " + string(d)) }

func (s *Store) layerPath(id LayerID, elem ...string) string {
	return s.path(append([]string{LayersFolder, string(id)}, elem...)...)
}

// checkID keeps names that come from records from leading out of the store.
func checkID(id LayerID) error {
	if len(id) != 64 || strings.Trim(string(id), "0123456789abcdef") != "" {
		return fmt.Errorf("bad layer id %q", id)
	}
	return nil
}

// loadLayer reads a layer's record, which must not be changed; the error matches
// fs.ErrNotExist if the store has no such layer.
func (s *Store) loadLayer(id LayerID) (*layerRecord, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	s.pinLayer(id)
	var st unix.Stat_t
	statErr := object.Lstat(s.layerPath(id, layerFile), &st)
	version := fmt.Sprint(st.Ino, st.Ctim)
	if known, ok := s.records.Load(id); ok && statErr == nil && known.(knownRecord).version == version {
		return known.(knownRecord).rec, nil
	}
	rec, err := s.readLayer(id)
	if err == nil && statErr == nil {
		s.records.Store(id, knownRecord{rec, version})
	}
	return rec, err
}

// knownRecord is a record and the version of the file that it was read from.
type knownRecord struct {
	rec     *layerRecord
	version string
}

func (s *Store) readLayer(id LayerID) (*layerRecord, error) {
	b, err := os.ReadFile(s.layerPath(id, layerFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("layer %s: %w", id, fs.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("layer %s: %w", id, err)
	}
	var rec layerRecord
	if err := json.Unmarshal(b, &rec); err != nil || rec.Layer.ID != id {
		return nil, fmt.Errorf("layer %s: damaged record, %w", id, fs.ErrNotExist)
	}
	return &rec, nil
}

func (s *Store) onDisk(id LayerID) bool {
	if checkID(id) != nil {
		return false
	}
	s.pinLayer(id)
	_, err := os.Lstat(s.layerPath(id, layerFile))
	return err == nil
}

func (s *Store) hasForm(id LayerID, form string) bool {
	_, err := os.Lstat(s.layerPath(id, form))
	return err == nil
}

// publish completes the folder tmp with its record and moves it to its place. If
// the layer is there already, tmp is removed and the other one returned.
func (s *Store) publish(tmp string, rec *layerRecord) (Layer, error) {
	b, err := json.Marshal(rec)
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, layerFile), b, 0o600)
	}
	if err != nil {
		return Layer{}, fmt.Errorf("write layer record: %w", err)
	}
	if _, err := os.Lstat(filepath.Join(tmp, dirForm)); err == nil {
		if err := s.NoteLacking(tmp); err != nil {
			return Layer{}, err
		}
	}
	s.pinLayer(rec.Layer.ID)
	s.lease.Made(rec.Layer.Size - rec.holes)
	err = os.Rename(tmp, s.layerPath(rec.Layer.ID))
	if errors.Is(err, fs.ErrExist) {
		if old, lerr := s.loadLayer(rec.Layer.ID); lerr == nil {
			l := old.Layer
			if old.isForeign() && !rec.isForeign() {
				l, lerr = s.setContent(old, rec.Layer.Content)
			}
			return l, errors.Join(lerr, files.RemoveAll(tmp))
		}
	}
	if err != nil {
		return Layer{}, fmt.Errorf("publish layer %s: %w", rec.Layer.ID, err)
	}
	s.noteMovable(rec)
	return rec.Layer, nil
}

// promised returns a layer that is on disk, whose Content somebody promised. If nobody
// knew it before, the layer's own manifest tells whether that is true.
func (s *Store) promised(rec *layerRecord, content digest.Digest) (Layer, error) {
	switch {
	case rec.Layer.Content == content:
		return rec.Layer, nil
	case !rec.isForeign():
		return Layer{}, fmt.Errorf("%w: the content of layer %s is %s, not %s as was promised", ErrDigest, rec.Layer.ID, rec.Layer.Content, content)
	}
	idx, err := manifest.Open(s.layerPath(rec.Layer.ID, manifestFile))
	if err != nil {
		return Layer{}, err
	}
	if got, err := idx.Content(); err != nil || got != content {
		// A foreign layer's manifest does not say all that its tar says.
		return rec.Layer, err
	}
	return s.setContent(rec, content)
}

// setContent records what the content of a foreign layer is.
func (s *Store) setContent(rec *layerRecord, content digest.Digest) (Layer, error) {
	own := *rec
	own.Layer.Content = content
	b, err := json.Marshal(own)
	if err == nil {
		err = s.lease.WriteFile(s.layerPath(own.Layer.ID, layerFile), b)
	}
	if err != nil {
		return Layer{}, fmt.Errorf("record content of layer %s: %w", own.Layer.ID, err)
	}
	return own.Layer, nil
}

// Lookup returns the layer that completes a chain, if the store has its data.
func (s *Store) Lookup(chain ChainID) (Layer, bool) {
	if digest.Digest(chain).Validate() != nil {
		return Layer{}, false
	}
	return s.lookupID(idOf(chain))
}

// Known is Lookup, also of layers that AddLazy registered in this process.
func (s *Store) Known(chain ChainID) (Layer, bool) {
	if l, ok := s.Lookup(chain); ok || digest.Digest(chain).Validate() != nil {
		return l, ok
	}
	l, ok := s.lazyLayer(idOf(chain))
	return l.layer, ok
}

func (s *Store) lookupID(id LayerID) (Layer, bool) {
	rec, err := s.loadLayer(id)
	if err != nil {
		return Layer{}, false
	}
	return rec.Layer, true
}

// Has reports whether a layer's data is on disk, or can be fetched because it was
// registered with AddLazy in this process. What was seen on disk is not looked for again:
// it is pinned, so that it stays until Release.
func (s *Store) Has(id LayerID) bool {
	if _, ok := s.seen.Load(id); ok {
		return true
	}
	if s.onDisk(id) {
		s.seen.Store(id, nil)
		return true
	}
	_, ok := s.Lazy(id)
	return ok
}

// Layer returns what is known of a layer, or an error that matches
// fs.ErrNotExist.
func (s *Store) Layer(id LayerID) (Layer, error) {
	rec, err := s.loadLayer(id)
	if err == nil {
		return rec.Layer, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l, ok := s.lazy[id]; ok {
		return l.layer, nil
	}
	return Layer{}, err
}

// Blob returns the descriptor of a layer's compressed form: the one it was pulled
// as, or the one that SetBlob named last. Whether the bytes are here is
// Blobs().Has.
func (s *Store) Blob(l Layer) (ocispec.Descriptor, bool) {
	var desc ocispec.Descriptor
	if checkID(l.ID) != nil {
		return desc, false
	}
	b, err := os.ReadFile(s.layerPath(l.ID, blobFile))
	if err == nil && json.Unmarshal(b, &desc) == nil && desc.Digest.Validate() == nil {
		return desc, true
	}
	lazy, ok := s.Lazy(l.ID)
	return lazy.Blob, ok
}

// SetBlob records that a layer's tar has a compressed form. The layer's data is
// on disk.
func (s *Store) SetBlob(l Layer, desc ocispec.Descriptor) error {
	if err := checkID(l.ID); err != nil {
		return err
	}
	b, err := json.Marshal(desc)
	if err != nil {
		return fmt.Errorf("record blob of layer %s: %w", l.ID, err)
	}
	return s.lease.WriteFile(s.layerPath(l.ID, blobFile), b)
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}
