// Package measure holds the instruments of the benchmark: latency histograms, the CPU
// time of processes as the operating system counts it, and what a few rounds of the
// same measurement say together.
//
// It knows nothing of PostgreSQL, targets or workloads.
//
// The governing idea: a figure is a median with its minimum and maximum, since one run
// on a shared machine says little.
package measure
