import { type TemplateResult, html } from "lit-html";

/** Text to be taken along, with a button that copies it. */
export function copyable(title: string, text: string): TemplateResult {
  const copy = async (event: Event) => {
    const button = event.currentTarget as HTMLButtonElement;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Browsers give the clipboard to pages of this machine and of https alone, where the user lets them.
      getSelection()?.selectAllChildren(button.closest(".copyable")!.querySelector("pre")!);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  };
  return html`<div class="copyable">
    <div><h3>${title}</h3><button aria-label=${`Copy the ${title} line`} @click=${copy}>Copy</button></div>
    <pre tabindex="0" aria-label=${`${title} line`}>${text}</pre>
  </div>`;
}
