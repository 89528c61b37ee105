// Package cache decides whether a step's result already exists: keys, records,
// and backends that keep them.
package cache
