// Package parser turns Dockerfile bytes into typed stages with positions, on
// BuildKit's own parser, instruction types, shell lexer and lint rules; it adds
// one File for all that a build needs to know of a Dockerfile, ignore files, and
// one error type that carries file, lines, excerpt and hint.
package parser
