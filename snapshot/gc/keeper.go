// Package gc is how the keepers of a store's folders speak with the collector
// (cmd/collect): a keeper alone knows the names in its folders, says what lies there, and
// removes it under its own locks; the collector decides what goes.
package gc

import (
	"context"

	"layered.build/builder/snapshot"
)

// Folder is a place in a store whose entries are items.
type Folder struct {
	// Name is the path below the store's folder.
	Name string
	// Depth is how many levels below it the items lie, at least 1. What lies above them is
	// an item by itself; what is in them belongs to them.
	Depth int
}

// Contents are what a keeper keeps, at one time.
type Contents struct {
	// Items are what the keeper can say something about; what else lies in its folders is
	// of KindInternal.
	Items []Item
	// Roots stay, and so does what they need, until a user removes them.
	Roots []Needs
	// Sweep, unless nil, is called in the collection once what was chosen is gone. It
	// removes what of the keeper's leads nowhere now; with all also what only would be
	// welcome to the next build of something that is gone.
	Sweep func(c *snapshot.Collection, all bool) error
}

// Keeper looks after some folders of a store. It is safe for concurrent use.
type Keeper interface {
	// Folders are where its items lie. Others may lie elsewhere in a store; their top
	// folders are items by themselves.
	Folders() []Folder
	// Items lists what is there now. It uses (pins) nothing.
	Items(context.Context) (Contents, error)
	// Remove takes an item out of the store, within a collection. The answer is false for
	// one that stays because somebody uses it after all. That it is gone already is no
	// error.
	Remove(*snapshot.Collection, Item) (bool, error)
}

// Tidier is a keeper with something to clear away after a collection, and outside of it.
type Tidier interface {
	Keeper
	Tidy() error
}
