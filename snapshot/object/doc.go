// Package object describes and makes single file system objects as layers have them:
// files, directories, links and devices with owners, modes, attributes and times, as
// the calling user can.
package object
