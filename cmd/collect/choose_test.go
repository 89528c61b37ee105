package collect

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"layered.build/builder/snapshot"
	"layered.build/builder/snapshot/gc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf is a keeper that notes in which order things are removed.
type shelf struct {
	gc.Contents
	removed []string
}

func (*shelf) Folders() []gc.Folder                         { return nil }
func (s *shelf) Items(context.Context) (gc.Contents, error) { return s.Contents, nil }

func (s *shelf) Remove(_ *snapshot.Collection, it gc.Item) (bool, error) {
	s.removed = append(s.removed, it.ID)
	return it.ID != "taken", nil
}

// stack names layers, the lowest first.
func stack(ids ...snapshot.LayerID) (st snapshot.Stack) {
	for _, id := range ids {
		st = append(st, snapshot.Layer{ID: id})
	}
	return st
}

// shelfOf has: layers of a named image (base, top), of records only (side, side2), of an
// image without a name (lost), and of nothing (alone); the records that lead to them; and
// things that need nothing. What is older has the smaller number.
func shelfOf() (*shelf, *measured) {
	s := &shelf{}
	found := &measured{parts: map[string]part{"internal": {bytes: 1000}}}
	add := func(age int, it gc.Item) {
		it.LastUsed = time.Unix(int64(age), 0)
		if it.Path = it.ID; it.Kind == gc.KindImage {
			it.Path = ""
		} else {
			found.parts[it.Path] = part{bytes: 10, touched: it.LastUsed}
		}
		s.Contents.Items = append(s.Contents.Items, it)
	}
	for _, id := range []snapshot.LayerID{"base", "top", "side", "side2", "lost", "alone"} {
		add(1, gc.Item{ID: string(id), Kind: gc.KindRegular, Rule: gc.Free, Layer: id})
	}
	record := func(age int, id string, layers ...snapshot.LayerID) {
		add(age, gc.Item{ID: id, Kind: gc.KindRegular, Rule: gc.Follows, Description: "step " + id, Needs: gc.Needs{Layers: []snapshot.Stack{stack(layers...)}}})
	}
	record(50, "r-top", "base", "top")
	record(20, "r-side", "base", "side")
	record(40, "r-side2", "base", "side", "side2")
	record(60, "r-nowhere", "never")
	add(30, gc.Item{ID: "i-lost", Kind: gc.KindImage, Rule: gc.Free, Needs: gc.Needs{Layers: []snapshot.Stack{stack("base", "lost")}}})
	add(70, gc.Item{ID: "mount", Kind: gc.KindMount, Rule: gc.Free})
	add(71, gc.Item{ID: "busy", Kind: gc.KindMount, Rule: gc.Free, InUse: true})
	add(72, gc.Item{ID: "taken", Kind: gc.KindMount, Rule: gc.Free})
	add(80, gc.Item{ID: "log", Kind: gc.KindLog, Rule: gc.Spare})
	add(90, gc.Item{ID: "run", Kind: gc.KindRun, Rule: gc.Stays})
	add(95, gc.Item{ID: "i-named", Kind: gc.KindImage, Rule: gc.Kept, Needs: gc.Needs{Layers: []snapshot.Stack{stack("base", "top")}}})
	found.total = int64(1000 + 10*(len(found.parts)-1))
	return s, found
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name    string
		all     bool
		match   func(Item) bool
		budget  Budget
		keep    int64
		removed string // each once, in whatever order
		pruned  string // in this order
		unused  time.Time
		images  bool
	}{
		{
			"what nothing needs", false, nil, Budget{}, 0,
			"r-side r-side2 i-lost alone lost side2 side r-nowhere mount taken", "alone i-lost lost side2 side r-nowhere mount", time.Time{}, false,
		},
		{
			"also what would be welcome", true, nil, Budget{}, 0,
			"r-side r-side2 i-lost alone lost side2 side r-top r-nowhere mount taken log", "alone i-lost lost side2 side r-top r-nowhere mount log", time.Time{}, false,
		},
		{
			"no more than needed", true, nil, Budget{MaxUsed: 1120}, 1120,
			"r-side2 i-lost alone lost side2", "alone i-lost lost side2", time.Time{}, false,
		},
		{
			"only what is asked for", true, func(it Item) bool { return it.Kind == gc.KindMount }, Budget{}, 0,
			"mount taken", "mount", time.Time{}, false,
		},
		{
			"a layer takes with it what stands on it", false, func(it Item) bool { return it.ID == "side" }, Budget{}, 0,
			"r-side r-side2 side side2", "side side2", time.Time{}, false,
		},
		{
			"an image with a name that nobody used for long", true, nil, Budget{}, 0,
			"r-side r-side2 i-lost alone lost side2 side r-top r-nowhere mount taken log i-named top base",
			"alone i-lost lost side2 side r-nowhere mount log i-named top base", time.Unix(96, 0), false,
		},
		{
			"an image with a name that somebody used", false, nil, Budget{}, 0,
			"r-side r-side2 i-lost alone lost side2 side r-nowhere mount taken", "alone i-lost lost side2 side r-nowhere mount", time.Unix(95, 0), false,
		},
		{
			"images alone, and the layers that only these have", false, nil, Budget{}, 0,
			"i-lost lost i-named", "i-lost lost i-named", time.Unix(96, 0), true,
		},
	} {
		s, found := shelfOf()
		inv := newInventory(snapshot.Pins{}, c.unused)
		inv.add(s, s.Contents)
		inv.connect()
		o := PruneOptions{All: c.all, Match: c.match, Budget: c.budget, Images: c.images}
		ch := chooser{inv: inv, gone: map[snapshot.LayerID]bool{}, budget: c.budget, total: found.total, keep: c.keep}
		ch.choose(inv.items(found), o)
		var out Pruned
		r := removal{inv: inv, out: &out, removed: map[*entry]bool{}}
		if err := r.do(ch.chosen, ch.gone, c.all); err != nil {
			t.Fatal(err)
		}
		var pruned []string
		for _, it := range out.Items {
			pruned = append(pruned, it.ID)
		}
		if got := strings.Join(pruned, " "); got != c.pruned {
			t.Errorf("%s: pruned\n%s, want\n%s", c.name, got, c.pruned)
		}
		if missing := missingFrom(s.removed, strings.Fields(c.removed)); missing != "" || len(s.removed) != len(strings.Fields(c.removed)) {
			t.Errorf("%s: removed %v, want %s", c.name, s.removed, c.removed)
		}
		for _, e := range inv.entries {
			for _, st := range e.Needs.Layers {
				for _, l := range st {
					lead, layer := slices.Index(s.removed, e.ID), slices.Index(s.removed, string(l.ID))
					if layer >= 0 && (lead < 0 || lead > layer) {
						t.Errorf("%s: %s went before %s, which leads to it", c.name, l.ID, e.ID)
					}
				}
			}
		}
	}
}

func missingFrom(got, want []string) string {
	for _, id := range want {
		if !slices.Contains(got, id) {
			return id
		}
	}
	return ""
}

// What users are shown of a thing is its keeper's word and that of all who need it.
func TestItems(t *testing.T) {
	s, found := shelfOf()
	found.parts["mount"] = part{bytes: 70, touched: time.Unix(1, 0)}
	inv := newInventory(snapshot.Pins{}, time.Time{})
	inv.add(s, s.Contents)
	inv.connect()
	got := map[string]Item{}
	for _, it := range inv.items(found) {
		got[it.ID] = it
	}
	for id, want := range map[string]Item{
		"base":     {Kind: gc.KindImage, Size: 10, LastUsed: time.Unix(50, 0)},
		"top":      {Kind: gc.KindImage, Size: 10, LastUsed: time.Unix(50, 0), Description: "step r-top"},
		"side":     {Kind: gc.KindRegular, Size: 10, LastUsed: time.Unix(40, 0), Reclaimable: true, Description: "step r-side"},
		"lost":     {Kind: gc.KindRegular, Size: 10, LastUsed: time.Unix(30, 0), Reclaimable: true},
		"i-lost":   {Kind: gc.KindImage, LastUsed: time.Unix(30, 0), Reclaimable: true},
		"r-side":   {Kind: gc.KindRegular, Size: 10, LastUsed: time.Unix(20, 0), Reclaimable: true, Description: "step r-side"},
		"mount":    {Kind: gc.KindMount, Size: 70, LastUsed: time.Unix(70, 0), Reclaimable: true},
		"busy":     {Kind: gc.KindMount, Size: 10, LastUsed: time.Unix(71, 0), InUse: true},
		"run":      {Kind: gc.KindRun, Size: 10, LastUsed: time.Unix(90, 0)},
		"internal": {Kind: gc.KindInternal, Size: 1000},
	} {
		it := got[id]
		it.ID, it.entry = "", nil
		if it != want {
			t.Errorf("%s is shown as\n%+v, not\n%+v", id, it, want)
		}
	}
	if shared := got["base"].Shared() && got["run"].Shared(); !shared || got["i-lost"].Shared() || got["side"].Shared() {
		t.Error("what images with a name and runs use is not told from the rest")
	}
}
