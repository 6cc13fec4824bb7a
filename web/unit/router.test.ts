import { expect, test } from "vitest";
import { match, safeReturn } from "../src/app/router";

test("a pattern finds its parameters and fits nothing else", () => {
  expect(match("/chat/:id", "/chat/a%20b")).toEqual({ id: "a b" });
  expect(match("/chat", "/chat/")).toEqual({});
  expect(match("/chat/:id", "/chat")).toBeUndefined();
  expect(match("/chat/:id", "/chat/a/b")).toBeUndefined();
  expect(match("/chat/:id", "/chat/%")).toBeUndefined();
});

test("a sign-in leads back to this site only", () => {
  expect(safeReturn("/audit?q=a")).toBe("/audit?q=a");
  for (const elsewhere of ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", null, ""]) {
    expect(safeReturn(elsewhere)).toBe("/");
  }
});
