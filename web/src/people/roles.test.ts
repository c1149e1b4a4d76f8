import { expect, test } from "vitest";
import { codeIn, invitationLink } from "./roles";

test("the code survives the way through an address", () => {
  const link = invitationLink("https://models.example.com", "a/b+c d");
  expect(link).toBe("https://models.example.com/join#a%2Fb%2Bc%20d");
  expect(codeIn(new URL(link).hash)).toBe("a/b+c d");
});

test("a broken or missing code is none", () => {
  expect(codeIn("")).toBe("");
  expect(codeIn("#%")).toBe("");
});
