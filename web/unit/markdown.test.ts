import { expect, test } from "vitest";
import { blocks, render } from "../src/text/markdown";

const HOSTILE = [
  "<script>alert(1)</script>",
  "<img src=x onerror=alert(1)>",
  "<svg/onload=alert(1)>",
  "[a](javascript:alert(1))",
  "[a](data:text/html,<script>alert(1)</script>)",
  "![a](https://tracker.example/pixel.png)",
  "<iframe src=https://evil.example></iframe>",
  "<form action=https://evil.example><input name=password></form>",
  "<a href=\"https://evil.example\" onclick=alert(1)>x</a>",
  "<style>*{display:none}</style>",
  "| <img src=x onerror=alert(1)> |\n|---|\n| <b onmouseover=alert(1)>x</b> |",
  "```\"><img src=x onerror=alert(1)>\ncode\n```",
  "[a][b]\n\n[b]: javascript:alert(1)",
];

test("nothing that a model writes runs, loads or posts", () => {
  for (const text of HOSTILE) {
    for (const html of [render(text), blocks(text).join("")]) {
      const page = new DOMParser().parseFromString(html, "text/html");
      expect(page.querySelector("script, img, svg, iframe, form, style, object, embed, link"), text).toBeNull();
      for (const element of page.body.querySelectorAll("*")) {
        for (const { name } of element.attributes) expect(name, text).not.toMatch(/^on|^style$|^src$/);
        const href = element.getAttribute("href");
        if (href) expect(href, text).toMatch(/^(https?|mailto):/);
      }
    }
  }
});

test("text keeps its form, and a link opens apart", () => {
  expect(render("a **b** `c`").trim()).toBe("<p>a <strong>b</strong> <code>c</code></p>");
  expect(render("```rust\nfn a() {}\n```").trim()).toBe('<pre data-language="rust"><code>fn a() {}</code></pre>');
  const link = new DOMParser().parseFromString(render("[a](https://example.org)"), "text/html").querySelector("a");
  expect(link?.rel).toContain("noopener");
});

test("a text in blocks is the text as a whole, also where a block refers to another", () => {
  const text = "# a\n\n- b\n- c\n\n[d][e]\n\n```\nf\n```\n\n[e]: https://example.org";
  expect(blocks(text).join("").replace(/\s/g, "")).toBe(render(text).replace(/\s/g, ""));
});

test("columns keep their side, lists their first number and tasks their boxes", () => {
  const page = (text: string) => new DOMParser().parseFromString(render(text), "text/html");
  const cells = page("| a | b |\n|---|---:|\n| c | d |").querySelectorAll("td");
  expect([...cells].map((cell) => cell.getAttribute("align"))).toEqual([null, "right"]);
  expect(page("| a |\n|---|\n| c |").querySelector(".scroll")?.getAttribute("tabindex")).toBe("0");
  expect(page("4. a\n5. b").querySelector("ol")?.start).toBe(4);
  const boxes = page("- [x] a\n- [ ] b").querySelectorAll("input");
  expect([...boxes].map(({ type, checked, disabled }) => [type, checked, disabled])).toEqual([
    ["checkbox", true, true],
    ["checkbox", false, true],
  ]);
});
