package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"time"

	"layered.build/builder/snapshot/manifest"
)

// layerTimes is what a record says of a layer's modification times.
type layerTimes struct {
	// Newest is the latest real time of an entry, in seconds.
	Newest int64
	// Epoch is what the times were limited to when the layer was made.
	Epoch *int64 `json:",omitempty"`
}

// limited reports whether some entry's time is not its real one.
func (t *layerTimes) limited() bool { return t != nil && t.Epoch != nil && t.Newest > *t.Epoch }

// fits reports whether all times are what they are under an epoch.
func (t *layerTimes) fits(epoch int64) bool {
	was := int64(math.MaxInt64)
	if t.Epoch != nil {
		was = *t.Epoch
	}
	return was == epoch || t.Newest <= min(was, epoch)
}

// anyLimited reports whether a layer of the stack has times that are not its real
// ones.
func (s *Store) anyLimited(stack Stack) bool {
	return slices.ContainsFunc(stack, func(l Layer) bool {
		rec, err := s.loadLayer(l.ID)
		return err == nil && rec.Times.limited()
	})
}

// Clamp returns the layers as they would be if they had been made on top of parent
// under an epoch: no entry has a modification time after it, and one that an
// earlier epoch limited has the earlier of its real time and this epoch. Layers
// that are so already, on the same layers, are returned as they are; layers whose
// tar was made elsewhere keep their times. The others are made once, and looked up
// from then on; the files of a directory are hard links then, so that either layer
// can be removed and the contents are stored once.
func (s *Store) Clamp(ctx context.Context, parent, layers Stack, epoch time.Time) (Stack, error) {
	below := slices.Clone(parent)
	changed := false
	for _, l := range layers {
		c, err := s.clampLayer(ctx, below, l, changed, epoch)
		if err != nil {
			return nil, fmt.Errorf("limit times of layer %s: %w", l.ID, err)
		}
		changed = changed || c.ID != l.ID
		below = append(below, c)
	}
	return below[len(parent):], nil
}

// clampLayer does one layer; moved says that it comes to stand on other layers
// than it did.
func (s *Store) clampLayer(ctx context.Context, below Stack, l Layer, moved bool, epoch time.Time) (Layer, error) {
	rec, err := s.loadLayer(l.ID)
	if errors.Is(err, fs.ErrNotExist) {
		if lazy, ok := s.Lazy(l.ID); ok && lazy.Content == "" && !moved {
			return l, nil // made elsewhere
		}
		if err = s.ensure(ctx, Stack{l}, false); err == nil {
			rec, err = s.loadLayer(l.ID)
		}
	}
	if err != nil {
		return Layer{}, err
	}
	fits, err := s.fits(rec, epoch.Unix())
	if err != nil {
		return Layer{}, err
	}
	if fits && !moved {
		return l, nil
	}
	d := &derivation{s: s, rec: rec, below: below, epoch: epoch, keep: fits}
	if c, ok := d.known(); ok {
		return c, nil
	}
	// The lock keeps the layer's form from changing.
	lock, err := s.lease.Lock(ctx, string(l.ID))
	if err != nil {
		return Layer{}, err
	}
	defer lock.Remove()
	if c, ok := d.known(); ok {
		return c, nil
	}
	return d.run(ctx)
}

// fits reports whether an epoch changes nothing in a layer.
func (s *Store) fits(rec *layerRecord, epoch int64) (bool, error) {
	if rec.isForeign() {
		return true, nil
	}
	times := rec.Times
	if times == nil { // fetched, or made before times were recorded
		idx, err := manifest.Open(s.layerPath(rec.Layer.ID, manifestFile))
		if err != nil {
			return false, err
		}
		if times, err = timesOf(idx); err != nil {
			return false, err
		}
	}
	return times.fits(epoch), nil
}

// timesOf finds out what a record says where the layer is not limited.
func timesOf(x *manifest.Index) (*layerTimes, error) {
	t := &layerTimes{Newest: math.MinInt64}
	for i := range x.Len() {
		r, err := x.Record(i)
		if err != nil {
			return nil, err
		}
		if r.Type != TypeWhiteout {
			t.Newest = max(t.Newest, r.TrueTime().Unix())
		}
	}
	return t, nil
}

// clamped says what a layer's tar is under an epoch.
type clamped struct {
	Epoch  int64
	DiffID DiffID
}

// maxClamped is how many epochs are remembered for a layer.
const maxClamped = 64

// clampedAs returns what was derived from a layer, the latest last. A file that
// cannot be read only costs the work again.
func (s *Store) clampedAs(id LayerID) []clamped {
	var list []clamped
	b, err := os.ReadFile(s.layerPath(id, clampedFile))
	if err != nil || json.Unmarshal(b, &list) != nil {
		return nil
	}
	return list
}

// remember adds to what was derived from a layer. The caller holds its lock.
func (s *Store) remember(id LayerID, c clamped) error {
	list := slices.DeleteFunc(s.clampedAs(id), func(o clamped) bool { return o.Epoch == c.Epoch })
	list = append(list, c)
	list = list[max(0, len(list)-maxClamped):]
	b, err := json.Marshal(list)
	if err != nil {
		return err
	}
	return s.lease.WriteFile(s.layerPath(id, clampedFile), b)
}
