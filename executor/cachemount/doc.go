// Package cachemount keeps the cache mounts of a store: their folders, names and locks, and
// how one without content gets its content at once.
package cachemount
