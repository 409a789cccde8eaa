import { describe, expect, it } from "vitest";
import { apiAccess } from "../../src/config/api-access.ts";
import { ImportError } from "../../src/domain/import-failure.ts";

const API = "http://127.0.0.1:9292";

describe("apiAccess()", () => {
  it("is that of the options, else of the environment, else none", () => {
    const env = { IMAGE_IMPORT_API: `${API}/v2/`, OS_TOKEN: "theirs" };

    expect(apiAccess({}, {})).toBeUndefined();
    expect(apiAccess({}, env)).toEqual({ url: API, token: "theirs" });
    expect(apiAccess({ apiToken: "mine" }, env)).toEqual({ url: API, token: "mine" });
  });

  it.each(["secret\n", "secret\r\n", " secret "])(
    "accepts %j without the white space around it",
    (apiToken) => {
      expect(apiAccess({ api: API, apiToken }, {})?.token).toBe("secret");
    },
  );

  it.each(["", " \n"])("treats %j as no token", (apiToken) => {
    expect(apiAccess({ api: API, apiToken }, {})?.token).toBeUndefined();
  });

  it.each(["two\nlines", "two words", "t\u00f6ken", "null\0"])(
    "refuses the token %j, and does not show it",
    (apiToken) => {
      const refused = (): unknown => apiAccess({ api: API, apiToken }, {});

      expect(refused).toThrow(ImportError);
      expect(refused).toThrow(/^Cannot use the token of the API: it has a space, a line break/);
      expect(refused).not.toThrow(apiToken);
    },
  );
});
