// Package folder has the folder of a store as a whole: its marks, who uses it, and what is
// in a new one.
package folder
