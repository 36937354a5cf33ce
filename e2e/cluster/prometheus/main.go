// Reads PromQL as Prometheus itself does, and says what each expression asks for.
//
// It reads one JSON array of expressions from its standard input and writes one of the same length: for each, the series that it
// selects and every other label that it names, or why it is none.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

type expression struct {
	Error     string     `json:"error,omitempty"`
	Selectors []selector `json:"selectors"`
	// Labels by which is grouped or joined.
	Grouping []string `json:"grouping"`
}

type selector struct {
	Metric string   `json:"metric"`
	Labels []string `json:"labels"`
}

func main() {
	var texts []string
	if err := json.NewDecoder(os.Stdin).Decode(&texts); err != nil {
		log.Fatalf("failed to read the expressions: %v", err)
	}
	read := make([]expression, 0, len(texts))
	for _, text := range texts {
		read = append(read, parse(text))
	}
	if err := json.NewEncoder(os.Stdout).Encode(read); err != nil {
		log.Fatalf("failed to write what they ask for: %v", err)
	}
}

func parse(text string) expression {
	parsed := expression{Selectors: []selector{}, Grouping: []string{}}
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(text)
	if err != nil {
		parsed.Error = err.Error()
		return parsed
	}
	parser.Inspect(tree, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			parsed.Selectors = append(parsed.Selectors, selected(node))
		case *parser.AggregateExpr:
			parsed.Grouping = append(parsed.Grouping, node.Grouping...)
		case *parser.BinaryExpr:
			if matching := node.VectorMatching; matching != nil {
				parsed.Grouping = append(parsed.Grouping, matching.MatchingLabels...)
				parsed.Grouping = append(parsed.Grouping, matching.Include...)
			}
		}
		return nil
	})
	return parsed
}

func selected(node *parser.VectorSelector) selector {
	found := selector{Labels: []string{}}
	for _, matcher := range node.LabelMatchers {
		if matcher.Name == labels.MetricName {
			found.Metric = matcher.Value
		} else {
			found.Labels = append(found.Labels, matcher.Name)
		}
	}
	return found
}
