package snapshot

// Manifest streams the entries of a layer, parents before children, siblings
// sorted by name.
type Manifest struct{}

// Next returns the next entry, io.EOF after the last one.
func (m *Manifest) Next() (*Entry, error) { return nil, errTODO }

// Close ends the reading.
func (m *Manifest) Close() error { return errTODO }
