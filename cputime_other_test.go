//go:build !linux

package keycote

import "time"

// onCPU returns how long f took: threads cannot be asked for their time everywhere.
func onCPU(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
