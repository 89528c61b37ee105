// Package progress shows the events of a build: as a live picture on a terminal,
// as plain text for logs, as JSON lines for programs, or not at all. All forms
// are consumers of the same executor.Event stream.
package progress
