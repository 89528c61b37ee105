// Package shared makes one cache of those of many machines: what a build made is written
// to places that others read (Backend), as an index of records and the layers that they
// name. Its form is described in docs/FORMAT.md.
//
// A Session is the cache of one build: the machine's own records, then those of the places
// that it imports from; what it used and made is exported. A place that fails, or holds
// what is damaged, is never an error of the build but a miss, which is told.
package shared
