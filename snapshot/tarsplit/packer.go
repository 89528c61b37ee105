package tarsplit

import (
	"encoding/json"
	"io"

	"github.com/vbatts/tar-split/tar/storage"
)

// packer is tar-split's JSON packer, save that one path may come several
// times, as it does in some tars.
type packer struct {
	enc *json.Encoder
	pos int
}

var _ storage.Packer = (*packer)(nil)

func newPacker(w io.Writer) *packer { return &packer{enc: json.NewEncoder(w)} }

// AddEntry implements storage.Packer.
func (p *packer) AddEntry(e storage.Entry) (int, error) {
	e.Position = p.pos
	if err := p.enc.Encode(e); err != nil {
		return -1, err
	}
	p.pos++
	return e.Position, nil
}
