package cli

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	units "github.com/docker/go-units"

	"layered.build/builder/executor"
)

// stats collects what the processes of a build used.
type stats struct {
	mu    sync.Mutex // guards steps
	steps []stepStats
}

type stepStats struct {
	name string
	executor.Usage
}

// observe takes an event in.
func (s *stats) observe(ev executor.Event) {
	if ev.Usage == nil || ev.Step == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.steps = append(s.steps, stepStats{ev.Step.Meta.Name, *ev.Usage})
}

// print writes a table of the processes in the order in which they ended.
func (s *stats) print(w io.Writer) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "TIME\tCPU\tSYSTEM\tMEMORY\tREAD\tWRITTEN\tRECEIVED\tSENT\tPROCESSES\t  STEP")
	var sum executor.Usage
	for _, st := range s.steps {
		row(t, st.Usage, oneLine(st.name))
		sum.CPU += st.CPU
		sum.System += st.System
		sum.Wall += st.Wall
		sum.ReadBytes += st.ReadBytes
		sum.WriteBytes += st.WriteBytes
		sum.RxBytes += st.RxBytes
		sum.TxBytes += st.TxBytes
		sum.PeakMemory = max(sum.PeakMemory, st.PeakMemory)
		sum.Processes = max(sum.Processes, st.Processes)
	}
	if len(s.steps) > 1 {
		row(t, sum, "all (times and bytes in sum, memory and processes of the largest)")
	}
	return t.Flush()
}

func row(w io.Writer, u executor.Usage, name string) {
	rx, tx := bytesText(u.RxBytes), bytesText(u.TxBytes)
	if u.HostNetwork {
		rx, tx = "-", "-"
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t  %s\n", seconds(u.Wall), seconds(u.CPU), seconds(u.System),
		units.BytesSize(float64(u.PeakMemory)), bytesText(u.ReadBytes), bytesText(u.WriteBytes), rx, tx, u.Processes, name)
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2fs", d.Seconds()) }

func bytesText(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }

// oneLine cuts a step's name to what a table can hold.
func oneLine(name string) string {
	const most = 80
	name = strings.Join(strings.Fields(name), " ")
	if r := []rune(name); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return name
}
