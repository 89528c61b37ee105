package dag

// Selector returns the paths of an input that the step reads, and whether it
// reads only these: ok is false if it needs the whole input (a root file system,
// the base of a File, an input of Merge or Diff). Paths are as in Copy.Sources;
// with globs where the Copy has Wildcard set. A bind mount of a whole input has
// the path ".".
func (s *Step) Selector(input int) (paths []string, ok bool) {
	return nil, false
}
