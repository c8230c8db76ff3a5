// Command runner measures commands as whole processes. It reads a plan from standard input and prints one JSON
// document. The subjects of a group run in turn, round by round, so that what else the machine does meets all of them
// alike; who begins changes from round to round.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Plan is a list of groups; the subjects of one group are compared with each other.
type Plan struct {
	Groups []struct {
		Name string `json:"name"`
		// Rounds that count; Warmup rounds come first and do not.
		Rounds int `json:"rounds"`
		Warmup int `json:"warmup"`
		// Lead sequences begin each turn of a subject and do not count: no subject pays for what the one before it has left
		// in caches and in the kernel.
		Lead     int       `json:"lead"`
		Subjects []Subject `json:"subjects"`
	} `json:"groups"`
}

// Subject is a sequence of steps, run once a round.
type Subject struct {
	Name string `json:"name"`
	// AtOnce sequences are run beside each other, each step by all before the next step begins; 1 when absent.
	AtOnce int    `json:"atOnce"`
	Steps  []Step `json:"steps"`
}

// Step is one command. In Argv, Env and Stdin, "{n}" stands for a number that no other sequence of this run has.
type Step struct {
	// Name of a measured step; a step without one is preparation. A step that is named "add" stands in the report.
	Name  string            `json:"name"`
	Argv  []string          `json:"argv"`
	Env   map[string]string `json:"env"`
	Stdin string            `json:"stdin"`
	// Cold: files and directories whose pages are dropped from the page cache before the step.
	Cold []string `json:"cold"`
}

// Report of one measured step of one subject. Milliseconds, and bytes; medians where not said otherwise.
type Report struct {
	Group, Subject, Step string
	Runs                 int
	Failed               int
	FirstFailure         string `json:",omitempty"`
	WallMs, WallMinMs    float64
	WallP95Ms            float64
	CPUMs                float64
	PeakBytes            int64   // the largest process of the step, its children included, at its largest; over all runs
	ReadBytes            int64   // from storage
	AtOnce               int     `json:",omitempty"`
	PerSecond            float64 `json:",omitempty"` // sequences through this step, all of them beside each other
}

type run struct {
	wall, cpu  time.Duration
	peak, read int64
	failure    string
}

func execute(step Step, n int) run {
	fill := strings.NewReplacer("{n}", strconv.Itoa(n))
	argv := make([]string, len(step.Argv))
	for i, arg := range step.Argv {
		argv[i] = fill.Replace(arg)
	}
	command := exec.Command(argv[0], argv[1:]...)
	command.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}
	for key, value := range step.Env {
		command.Env = append(command.Env, key+"="+fill.Replace(value))
	}
	command.Stdin = strings.NewReader(fill.Replace(step.Stdin))
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	for _, path := range step.Cold {
		dropPages(path)
	}
	begun := time.Now()
	err := command.Run()
	r := run{wall: time.Since(begun)}
	if command.ProcessState == nil {
		r.failure = err.Error()
		return r
	}
	usage := command.ProcessState.SysUsage().(*syscall.Rusage)
	r.cpu = command.ProcessState.UserTime() + command.ProcessState.SystemTime()
	r.peak, r.read = usage.Maxrss*1024, usage.Inblock*512
	if err != nil {
		text := output.String()
		r.failure = fmt.Sprintf("%s: %v: %s", strings.Join(argv, " "), err, text[:min(len(text), 400)])
	}
	return r
}

func dropPages(top string) {
	_ = filepath.Walk(top, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			if file, err := os.Open(path); err == nil {
				_ = unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED)
				file.Close()
			}
		}
		return nil
	})
}

func median[T int64 | time.Duration | float64](values []T) T { return at(values, 0.5) }
func at[T int64 | time.Duration | float64](values []T, part float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}
func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Progress is for people; a log gets a line a group.
var onTerminal = func() bool {
	info, err := os.Stderr.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}()

func main() {
	var plan Plan
	if err := json.NewDecoder(os.Stdin).Decode(&plan); err != nil {
		fmt.Fprintln(os.Stderr, "runner: plan:", err)
		os.Exit(2)
	}
	number := 0
	reports := []Report{}
	for _, group := range plan.Groups {
		type key struct{ subject, step int }
		runs := map[key][]run{}
		totals := map[key][]time.Duration{}
		for round := range group.Warmup + group.Rounds {
			for turn := range group.Subjects {
				s := (turn + round) % len(group.Subjects)
				subject := group.Subjects[s]
				atOnce := max(subject.AtOnce, 1)
				for part := range (group.Lead + 1) * len(subject.Steps) {
					i := part % len(subject.Steps)
					step := subject.Steps[i]
					if i == 0 {
						number += atOnce
					}
					first := number
					done := make([]run, atOnce)
					begun := time.Now()
					var all sync.WaitGroup
					all.Add(atOnce)
					for j := range atOnce {
						go func() {
							defer all.Done()
							done[j] = execute(step, first+j)
						}()
					}
					all.Wait()
					total := time.Since(begun)
					counts := round >= group.Warmup && part >= group.Lead*len(subject.Steps)
					if counts || slices.ContainsFunc(done, func(r run) bool { return r.failure != "" && step.Name == "" }) {
						runs[key{s, i}] = append(runs[key{s, i}], done...)
						totals[key{s, i}] = append(totals[key{s, i}], total)
					}
				}
			}
			if onTerminal {
				fmt.Fprintf(os.Stderr, "\r%s: round %d of %d ", group.Name, round+1, group.Warmup+group.Rounds)
			}
		}
		fmt.Fprintln(os.Stderr, group.Name)
		for s, subject := range group.Subjects {
			for i, step := range subject.Steps {
				all := runs[key{s, i}]
				r := Report{Group: group.Name, Subject: subject.Name, Step: step.Name, Runs: len(all), AtOnce: subject.AtOnce}
				var wall, cpu []time.Duration
				var read []int64
				for _, one := range all {
					if one.failure != "" {
						r.Failed++
						if r.FirstFailure == "" {
							r.FirstFailure = one.failure
						}
						continue
					}
					wall, cpu, read = append(wall, one.wall), append(cpu, one.cpu), append(read, one.read)
					r.PeakBytes = max(r.PeakBytes, one.peak)
				}
				if step.Name == "" && r.Failed == 0 {
					continue
				}
				if len(wall) > 0 {
					r.WallMs, r.WallMinMs, r.WallP95Ms = ms(median(wall)), ms(slices.Min(wall)), ms(at(wall, 0.95))
					r.CPUMs, r.ReadBytes = ms(median(cpu)), median(read)
				}
				if subject.AtOnce > 1 && len(totals[key{s, i}]) > 0 {
					r.PerSecond = float64(subject.AtOnce) / median(totals[key{s, i}]).Seconds()
				}
				reports = append(reports, r)
			}
		}
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	if err := out.Encode(reports); err != nil {
		os.Exit(1)
	}
}
