// Package secretscan finds secrets in streams of bytes: plain, in base64 and in
// hexadecimal, in one pass and in memory that does not grow with the stream.
//
// Not searched are values of less than 8 bytes, and values that consist of less
// than 3 different bytes: these would be found everywhere.
package secretscan
